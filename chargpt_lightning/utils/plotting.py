"""Pictures of runs: losses and learning rates by step."""

import csv
from collections.abc import Sequence
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from chargpt_lightning.utils.atomic import write_whole
from chargpt_lightning.utils.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Points = tuple[list[int], list[float]]  # steps, and a figure at each
MOST_POINTS = 100_000  # of a column that is logged at every update: a hundred for each pixel of the picture's width
EVALUATED = ("val/", "train_eval/")  # these columns keep all their points
BEGINNING = 0.05  # of the steps: the loss falls so far in them that all else would look flat beside it


def can_draw() -> bool:
    """Whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def draw(runs: Sequence[Path]) -> "Figure":
    """Draws runs over each other: above their losses, below their learning rates.

    Args:
        runs: Their directories; one alone is drawn with the loss of each update, too.

    Raises:
        ConfigError: If one has no metrics.csv, or no losses in it.
    """
    from matplotlib.figure import Figure  # which takes more than half a second

    figure = Figure(figsize=(9, 6), dpi=120)
    figure.subplots_adjust(left=0.09, right=0.98, bottom=0.08, top=0.97, hspace=0.07)  # a layout engine draws twice
    losses, rates = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    columns = [read_columns(run) for run in runs]
    if len(runs) == 1 and "train/loss" in columns[0]:
        losses.plot(*columns[0]["train/loss"], color="0.8", linewidth=0.8, label="train, each update")
    for number, (run, of_run) in enumerate(zip(runs, columns, strict=True)):
        _draw_run(losses, rates, run.absolute(), of_run, color=f"C{number}")
    _make_room(losses)
    _label(losses, rates)
    return figure


def write_picture(figure: "Figure", path: Path) -> None:
    """Writes a picture whole, in the format of the path's suffix.

    Raises:
        OSError: If it cannot be written.
    """
    content = BytesIO()
    figure.savefig(content, format=path.suffix.removeprefix("."))
    write_whole(path, content.getbuffer())


class _Column:
    """The points of a column; of more than `most`, every second is dropped, again and again."""

    def __init__(self, most: int | None) -> None:
        self.points: Points = ([], [])
        self._most = most
        self._interval = 1
        self._seen = 0

    def add(self, step: int, figure: float) -> None:
        """Adds a point, unless thinning skips it."""
        steps, figures = self.points
        if self._seen % self._interval == 0:
            steps.append(step)
            figures.append(figure)
        self._seen += 1
        if self._most is not None and len(steps) > self._most:
            del steps[1::2], figures[1::2]
            self._interval *= 2


def read_columns(run: Path) -> dict[str, Points]:
    """The columns of a run's metrics.csv, each with the steps that have a figure in it.

    Columns of evaluations have all their points, others at most MOST_POINTS, evenly thinned out.

    Raises:
        ConfigError: If there is no such file, or no figures in it, or no losses of an evaluation.
    """
    columns: dict[str, _Column] = {}
    try:
        with (run / "metrics.csv").open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file, restkey=""):  # a list, which is no number
                _add_row(columns, row)
    except OSError as error:
        raise ConfigError(f"run ({run}) must be a run's directory, with its metrics.csv: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, OverflowError, csv.Error) as error:
        raise ConfigError(f"run ({run}) must have numbers in its metrics.csv, but: {error}") from error
    if "val/loss" not in columns:
        raise ConfigError(f"run ({run}) must have been evaluated once, for a curve to be drawn")
    return {name: column.points for name, column in columns.items()}


def _add_row(columns: dict[str, _Column], row: dict[str, str]) -> None:
    for name, figure in row.items():
        if figure:
            if name not in columns:
                columns[name] = _Column(None if name.startswith(EVALUATED) else MOST_POINTS)
            columns[name].add(int(row["step"]), float(figure))


def _draw_run(losses: "Axes", rates: "Axes", run: Path, columns: dict[str, Points], color: str) -> None:
    name = f"{run.parent.name}/{run.name}"
    best, step = min((loss, step) for step, loss in zip(*columns["val/loss"], strict=True))
    losses.plot(*columns["val/loss"], ".-", color=color, label=f"{name}: val, best {best:.4f} at step {step:,}")
    if "train_eval/loss" in columns:
        losses.plot(*columns["train_eval/loss"], ".:", color=color, label=f"{name}: train, evaluated")
    if "lr" in columns:
        rates.plot(*columns["lr"], color=color)


def _make_room(losses: "Axes") -> None:
    """Shows what comes after the beginning of each curve."""
    curves = [np.asarray(line.get_xydata()) for line in losses.lines]
    shown = np.concatenate([curve[curve[:, 0] >= BEGINNING * curve[-1, 0], 1] for curve in curves])
    margin = 0.05 * np.ptp(shown) or 1.0
    losses.set_ylim(shown.min() - margin, shown.max() + margin)


def _label(losses: "Axes", rates: "Axes") -> None:
    losses.set_ylabel("loss, nats per character")
    losses.legend(frameon=False)
    rates.set_ylabel("learning rate")
    rates.set_xlabel("step")
    for axes in (losses, rates):
        axes.grid(color="0.93")
        axes.spines[["top", "right"]].set_visible(False)
