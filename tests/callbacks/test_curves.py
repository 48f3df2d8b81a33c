"""Pictures of runs: curves.png in a run's directory, and `chargpt plot`."""

from pathlib import Path

import pytest
from matplotlib import image
from support.command_line import TINY, refused, rows

from chargpt_lightning.utils import plotting
from chargpt_lightning.utils.plotting import draw


@pytest.fixture
def pictures(monkeypatch):
    """Runs draw their curves, as they do where matplotlib is installed."""
    monkeypatch.setattr("chargpt_lightning.trainer.setup.can_draw", plotting.can_draw)


def points(run_dir: Path, name: str) -> list[tuple[float, float]]:
    return [(float(row["step"]), float(row[name])) for row in rows(run_dir) if row[name]]


def lines(axes) -> list[list[tuple[float, float]]]:
    return [list(zip(*line.get_data(), strict=True)) for line in axes.lines]


def test_a_run_is_drawn_with_all_its_losses_and_its_learning_rate(tiny_run):
    losses, rates = draw([tiny_run]).axes
    assert lines(losses) == [points(tiny_run, name) for name in ("train/loss", "val/loss", "train_eval/loss")]
    assert lines(rates) == [points(tiny_run, "lr")]
    best = min(points(tiny_run, "val/loss"), key=lambda point: point[1])
    labels = [text.get_text() for text in losses.get_legend().get_texts()]
    assert labels == [
        "train, each update",
        f"runs/version_0: val, best {best[1]:.4f} at step {best[0]:.0f}",
        "runs/version_0: train, evaluated",
    ]


def test_runs_lie_over_each_other_each_in_a_color_of_its_own(run, tiny_run):
    assert run(*TINY, "--model.learning_rate", "0.01").code == 0
    runs = [tiny_run, Path("runs/version_1")]
    losses, rates = draw(runs).axes
    assert lines(losses) == [points(one, name) for one in runs for name in ("val/loss", "train_eval/loss")]
    assert lines(rates) == [points(one, "lr") for one in runs]
    assert len({line.get_color() for line in rates.lines}) == 2
    assert [line.get_color() for line in losses.lines[::2]] == [line.get_color() for line in rates.lines]


def test_the_picture_has_room_for_what_comes_after_the_beginning():
    run_dir = Path("steep")
    run_dir.mkdir()
    falling = [4.0, 2.0, *(1.9 - step / 1000 for step in range(98))]
    rows = [f"{step},{loss}" for step, loss in enumerate(falling)]
    (run_dir / "metrics.csv").write_text("\n".join(["step,val/loss", *rows]))
    bottom, top = draw([run_dir]).axes[0].get_ylim()
    assert 1.7 < bottom < falling[-1]
    assert falling[5] < top < 2.0


def test_the_picture_is_drawn_anew_at_each_evaluation(run, pictures, during):
    seen = []
    picture = Path("runs/version_0/curves.png")
    during(1, 3, 4, happens=lambda: seen.append(picture.read_bytes() if picture.exists() else None))
    assert run(*TINY).code == 0
    assert seen[0] is None, "the evaluation before the first update gives one point, and no picture"
    assert None not in seen[1:]
    assert len({*seen, picture.read_bytes()}) == 4
    pixels = image.imread(picture)
    assert pixels.shape == (720, 1080, 4)
    assert 0.5 < (pixels[..., :3] == 1).all(axis=-1).mean() < 0.99, "curves on white"


def test_a_run_that_goes_on_is_drawn_from_its_start(run, pictures, tiny_run):
    assert run("fit", "--ckpt_path", "last", "--trainer.max_steps", "7").code == 0
    assert lines(draw([tiny_run]).axes[1]) == [[(step, rate) for step, rate in points(tiny_run, "lr")]]
    assert [step for step, _ in points(tiny_run, "lr")] == list(range(7))
    assert (tiny_run / "curves.png").exists()


@pytest.mark.parametrize(("suffix", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_plot_writes_runs_into_one_picture(run, tiny_run, suffix, start):
    assert run(*TINY).code == 0
    result = run("plot", "runs/version_0", "runs/version_1", "--out", f"pictures/both.{suffix}")
    assert (result.code, result.out, result.err) == (0, "", f"picture: pictures/both.{suffix}\n")
    assert Path(f"pictures/both.{suffix}").read_bytes().startswith(start)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "the following arguments are required: runs"),
        (["nowhere"], "run (nowhere) must be a run's directory with a metrics.csv, but: No such file or directory"),
        (["empty"], "run (empty) must have been evaluated at least once to be plotted"),
        (["odd"], "run (odd) must have numbers in its metrics.csv, but: could not convert string to float: 'x'"),
        (["empty", "--out", "curves.gif"], "out (curves.gif) must end in one of .png, .svg, .pdf"),
        (["empty", "--out", "curves"], "out (curves) must end in one of .png, .svg, .pdf"),
    ],
)
def test_what_cannot_be_drawn_is_said_in_a_line(run, args, message):
    for name, loss in (("empty", ""), ("odd", "x")):
        Path(name).mkdir()
        Path(name, "metrics.csv").write_text(f"step,val/loss\n1,{loss}\n", encoding="utf-8")
    assert refused(run, "plot", *args) == message


def test_without_matplotlib_plot_says_what_to_install(run, tiny_run, monkeypatch):
    monkeypatch.setattr("chargpt_lightning.utils.errors.find_spec", lambda name: None)
    message = "plot (runs/version_0) needs the package matplotlib: pip install matplotlib"
    assert refused(run, "plot", "runs/version_0") == message


def test_without_matplotlib_a_run_draws_nothing(run, pictures, monkeypatch):
    monkeypatch.setattr(plotting, "find_spec", lambda name: None)
    assert run(*TINY).code == 0
    assert not list(Path("runs").glob("**/*.png"))
