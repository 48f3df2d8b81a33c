"""Plots the losses and learning rates of runs over steps."""

import csv
from collections.abc import Sequence
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from chargpt_lightning.utils.atomic import write_atomically
from chargpt_lightning.utils.errors import ConfigError
from chargpt_lightning.utils.metrics import EVALUATION_PREFIXES, LR, TRAIN_EVAL_LOSS, TRAIN_LOSS, VAL_LOSS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Points = tuple[list[int], list[float]]  # steps, and the value at each step
MAX_POINTS = 100_000  # of a column that is logged at every update: a hundred per pixel of the plot's width
PLOTTED = (TRAIN_LOSS, VAL_LOSS, TRAIN_EVAL_LOSS, LR)
LIMIT = 1e15  # of plotted numbers; matplotlib fails on larger ones
BEGINNING = 0.05  # fraction of the steps in which the loss falls so far that the rest would look flat


def can_draw() -> bool:
    """Whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def draw(runs: Sequence[Path]) -> "Figure":
    """Plots runs into one figure: losses in the upper plot, learning rates in the lower one.

    Args:
        runs: Directories of runs. The loss of each update is plotted only if there is a single run.

    Raises:
        ConfigError: If a run has no metrics.csv, or no losses in it.
    """
    from matplotlib.figure import Figure  # the import takes more than half a second

    figure = Figure(figsize=(9, 6), dpi=120)
    figure.subplots_adjust(left=0.09, right=0.98, bottom=0.08, top=0.97, hspace=0.07)  # faster than a layout engine
    losses, rates = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    columns = [read_columns(run) for run in runs]
    if len(runs) == 1 and TRAIN_LOSS in columns[0]:
        losses.plot(*columns[0][TRAIN_LOSS], color="0.8", linewidth=0.8, label="train, each update")
    for number, (run, run_columns) in enumerate(zip(runs, columns, strict=True)):
        _draw_run(losses, rates, run.absolute(), run_columns, color=f"C{number}")
    _zoom(losses)
    _label(losses, rates)
    return figure


def save_figure(figure: "Figure", path: Path) -> None:
    """Atomically writes a figure in the format given by the path's suffix.

    Raises:
        OSError: If the file cannot be written.
    """
    file = BytesIO()
    figure.savefig(file, format=path.suffix.removeprefix("."))
    with file.getbuffer() as content:
        write_atomically(path, content)


class _Column:
    """The points of a column; whenever there are more than `most`, every second point is dropped."""

    def __init__(self, most: int | None) -> None:
        self.points: Points = ([], [])
        self._most = most
        self._interval = 1
        self._seen = 0

    def add(self, step: int, value: float) -> None:
        """Adds a point, unless it is one of those to drop."""
        steps, values = self.points
        if self._seen % self._interval == 0:
            steps.append(step)
            values.append(value)
        self._seen += 1
        if self._most is not None and len(steps) > self._most:
            del steps[1::2], values[1::2]
            self._interval *= 2


def read_columns(run: Path) -> dict[str, Points]:
    """Reads the columns of a run's metrics.csv, each with the steps at which it has a value.

    Columns of evaluations keep all their points, others at most MAX_POINTS, evenly spaced.

    Raises:
        ConfigError: If the file is missing, or contains anything but numbers, or no val loss.
    """
    columns: dict[str, _Column] = {}
    try:
        with (run / "metrics.csv").open(newline="", encoding="utf-8") as file:
            rows = csv.reader(file)
            names = next(rows, [])
            for cells in filter(None, rows):
                _add_row(columns, names, cells)
    except OSError as error:
        raise ConfigError(f"run ({run}) must be a run's directory with a metrics.csv, but: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, OverflowError, csv.Error) as error:
        raise ConfigError(f"run ({run}) must have numbers in its metrics.csv, but: {error}") from error
    if VAL_LOSS not in columns:
        raise ConfigError(f"run ({run}) must have been evaluated at least once to be plotted")
    return {name: column.points for name, column in columns.items()}


def _add_row(columns: dict[str, _Column], names: list[str], cells: list[str]) -> None:
    if len(cells) > len(names):
        raise ValueError(f"a row has {len(cells)} fields and the header {len(names)}")
    row = dict(zip(names, cells, strict=False))
    for name, cell in row.items():
        if cell:
            step, value = int(row["step"]), float(cell)
            if not 0 <= step < LIMIT or (name in PLOTTED and not abs(value) < LIMIT):
                raise ValueError(f"{name} ({cell}) at step {row['step']} cannot be plotted")
            if name not in columns:
                columns[name] = _Column(None if name.startswith(EVALUATION_PREFIXES) else MAX_POINTS)
            columns[name].add(step, value)


def _draw_run(losses: "Axes", rates: "Axes", run: Path, columns: dict[str, Points], color: str) -> None:
    name = f"{run.parent.name}/{run.name}"  # not first in a label: matplotlib hides labels that begin with _
    best, step = min((loss, step) for step, loss in zip(*columns[VAL_LOSS], strict=True))
    losses.plot(*columns[VAL_LOSS], ".-", color=color, label=f"val, {name}, best {best:.4f} at step {step:,}")
    if TRAIN_EVAL_LOSS in columns:
        losses.plot(*columns[TRAIN_EVAL_LOSS], ".:", color=color, label=f"train, {name}, evaluated")
    if LR in columns:
        rates.plot(*columns[LR], color=color)


def _zoom(losses: "Axes") -> None:
    """Limits the axis to the losses after the beginning of each curve."""
    curves = [np.asarray(line.get_xydata()) for line in losses.lines]
    shown = np.concatenate([curve[curve[:, 0] >= BEGINNING * curve[-1, 0], 1] for curve in curves])
    margin = 0.05 * np.ptp(shown) or 1.0
    losses.set_ylim(shown.min() - margin, shown.max() + margin)


def _label(losses: "Axes", rates: "Axes") -> None:
    losses.set_ylabel("loss, nats per character")
    for text in losses.legend(frameon=False).get_texts():
        text.set_parse_math(False)  # a name may contain $
    rates.set_ylabel("learning rate")
    rates.set_xlabel("step")
    for axes in (losses, rates):
        axes.grid(color="0.93")
        axes.spines[["top", "right"]].set_visible(False)
