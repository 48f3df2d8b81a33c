"""Plots the losses and learning rates of runs over steps."""

from collections.abc import Sequence
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from chargpt_lightning.utils.atomic import write_atomically
from chargpt_lightning.utils.metrics import LR, TRAIN_EVAL_LOSS, TRAIN_LOSS, VAL_LOSS
from chargpt_lightning.utils.metrics_csv import Points, read_columns

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

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
