"""curves.png in a run's directory: drawn when the run ends, and before that as often as it costs little."""

import signal
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("matplotlib")

from matplotlib import image
from support.command_line import TINY
from support.metrics_csv import CSV

from chargpt_lightning.callbacks import curves
from chargpt_lightning.loggers.csv_logger import History
from chargpt_lightning.utils import plotting
from chargpt_lightning.utils.plotting import draw

PICTURE = Path("runs/version_0/curves.png")


@pytest.fixture
def pictures(monkeypatch):
    """Runs draw their curves, as they do where matplotlib is installed."""
    monkeypatch.setattr("chargpt_lightning.trainer.setup.can_draw", plotting.can_draw)


def test_the_picture_shows_curves(run, pictures):
    assert run(*TINY).code == 0
    pixels = image.imread(PICTURE)
    assert pixels.shape == (720, 1080, 4)
    assert 0.5 < (pixels[..., :3] == 1).all(axis=-1).mean() < 0.99, "curves on white"


def test_drawing_takes_at_most_a_hundredth_of_the_time_before_the_end(pictures, monkeypatch):
    """Drawings of 2 s, with an evaluation every 30 s."""
    clock, times = [0.0], []

    def slow(runs):
        times.append(clock[0])
        clock[0] += 2

    monkeypatch.setattr(curves, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(curves, "draw", slow)
    monkeypatch.setattr(curves, "save_figure", lambda figure, path: None)
    history = History(Path("runs"))
    history.claim()
    trainer = SimpleNamespace(sanity_checking=False, should_stop=False, is_global_zero=True, logger=history)
    callback = curves.Curves()
    callback.on_train_start(trainer, None)
    while clock[0] < 3000:
        clock[0] += 30
        callback.on_validation_end(trainer, None)
    callback.on_train_end(trainer, None)
    history.close()
    assert 12 <= len(times) <= 16
    assert times[0] >= 100, "the first is expected to take a second"
    assert all(2 * count <= 0.01 * time for count, time in enumerate(times[1:-1], 2))
    assert times[-1] == pytest.approx(clock[0] - 2), "the last at the end"


def not_finite():
    raise FloatingPointError("train/loss (nan) at step 3 must be finite")


@pytest.mark.parametrize(
    ("happens", "code"), [(lambda: signal.raise_signal(signal.SIGINT), 130), (not_finite, 1)], ids=["stopped", "nan"]
)
def test_a_run_that_ends_early_is_drawn_too(run, pictures, during, happens, code):
    during(3, happens=happens)
    assert run(*TINY).code == code
    assert PICTURE.exists()


def test_a_resumed_run_is_drawn_from_its_start(run, pictures, tiny_run):
    assert run("fit", "--ckpt_path", "last", "--trainer.max_steps", "7").code == 0
    (rates,) = draw([tiny_run]).axes[1].lines
    assert list(rates.get_xdata()) == list(range(7))
    assert (tiny_run / "curves.png").exists()


def test_without_matplotlib_a_run_draws_nothing(run, pictures, monkeypatch):
    monkeypatch.setattr(plotting, "find_spec", lambda name: None)
    assert run(*TINY).code == 0
    assert not list(Path("runs").glob("**/*.png"))


def test_names_are_text_and_the_run_is_saved_before_it_is_drawn(run, pictures, monkeypatch):
    saved = []
    save = plotting.save_figure

    def save_figure(figure, path):
        labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
        saved.append((labels[1].split(", best")[0], (path.parent / "checkpoints/last.ckpt").exists()))
        save(figure, path)

    monkeypatch.setattr("chargpt_lightning.callbacks.curves.save_figure", save_figure)
    assert run(*TINY, "--trainer.default_root_dir", "_x^2$$").code == 0
    assert saved == [("val, _x^2$$/version_0", True)]
    assert Path("_x^2$$/version_0/curves.png").exists()


def test_a_run_whose_picture_cannot_be_drawn_continues(run, pictures, monkeypatch):
    monkeypatch.setattr("chargpt_lightning.callbacks.curves.draw", lambda runs: 1 / 0)
    trained = run(*TINY)
    assert trained.code == 0, trained.err
    assert trained.err.count("curves.png is not drawn: division by zero\n") == 1


@pytest.mark.parametrize("damage", [b",\x00x,", b",0,0,0,0,0,0,0,0,0,0,0,0,"], ids=["no number", "too many fields"])
def test_a_run_whose_old_rows_are_damaged_continues_without_its_picture(run, tiny_run, pictures, damage):
    CSV.write_bytes(CSV.read_bytes().replace(b",0,", damage, 1))
    result = run("fit", "--ckpt_path", "last", "--trainer.max_steps", "8")
    assert result.code == 0, result.err
    assert result.err.count("curves.png is not drawn: run (runs/version_0) must have numbers in its metrics.csv") == 1
