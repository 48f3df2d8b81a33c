"""Plots of runs: which curves they have, and which numbers they refuse."""

from pathlib import Path

import pytest
from support.command_line import TINY, refused, rows
from support.platforms import needs

from chargpt_lightning.utils.plotting import draw


def points(run_dir: Path, name: str) -> list[tuple[float, float]]:
    return [(float(row["step"]), float(row[name])) for row in rows(run_dir) if row[name]]


def lines(axes) -> list[list[tuple[float, float]]]:
    return [list(zip(*line.get_data(), strict=True)) for line in axes.lines]


@needs("matplotlib")
def test_a_run_is_drawn_with_all_its_losses_and_its_learning_rate(tiny_run):
    losses, rates = draw([tiny_run]).axes
    assert lines(losses) == [points(tiny_run, name) for name in ("train/loss", "val/loss", "train_eval/loss")]
    assert lines(rates) == [points(tiny_run, "lr")]
    best = min(points(tiny_run, "val/loss"), key=lambda point: point[1])
    labels = [text.get_text() for text in losses.get_legend().get_texts()]
    assert labels == [
        "train, each update",
        f"val, runs/version_0, best {best[1]:.4f} at step {best[0]:.0f}",
        "train, runs/version_0, evaluated",
    ]


@needs("matplotlib")
def test_each_of_several_runs_has_its_own_color(run, tiny_run):
    assert run(*TINY, "--model.learning_rate", "0.01").code == 0
    runs = [tiny_run, Path("runs/version_1")]
    losses, rates = draw(runs).axes
    assert lines(losses) == [points(one, name) for one in runs for name in ("val/loss", "train_eval/loss")]
    assert lines(rates) == [points(one, "lr") for one in runs]
    assert len({line.get_color() for line in rates.lines}) == 2
    assert [line.get_color() for line in losses.lines[::2]] == [line.get_color() for line in rates.lines]


@needs("matplotlib")
def test_the_vertical_axis_leaves_out_the_steep_beginning():
    run_dir = Path("steep")
    run_dir.mkdir()
    falling = [4.0, 2.0, *(1.9 - step / 1000 for step in range(98))]
    rows = [f"{step},{loss}" for step, loss in enumerate(falling)]
    (run_dir / "metrics.csv").write_text("\n".join(["step,val/loss", *rows]))
    bottom, top = draw([run_dir]).axes[0].get_ylim()
    assert 1.7 < bottom < falling[-1]
    assert falling[5] < top < 2.0


@needs("matplotlib")
@pytest.mark.parametrize(
    "table",
    [
        *("step,val/loss\n1,inf\n", "step,val/loss\n1,nan\n", "step,val/loss\n1,1e308\n", "step,val/loss\n1,2,3\n"),
        *("step,val/loss\n-1,2\n", "step,val/loss\n" + "9" * 400 + ",2\n", "val/loss\n1\n", "step,val/loss\nx,2\n"),
    ],
)
def test_numbers_that_cannot_be_plotted_are_refused(run, table):
    Path("one").mkdir()
    Path("one/metrics.csv").write_text(table, encoding="utf-8")
    assert refused(run, "plot", "one").startswith("run (one) must have numbers in its metrics.csv, but: ")
