"""curves.png in a run's directory: drawn anew at each evaluation."""

from pathlib import Path

import pytest

pytest.importorskip("matplotlib")

from matplotlib import image
from support.command_line import TINY
from support.metrics_csv import CSV

from chargpt_lightning.utils import plotting
from chargpt_lightning.utils.plotting import draw


@pytest.fixture
def pictures(monkeypatch):
    """Runs draw their curves, as they do where matplotlib is installed."""
    monkeypatch.setattr("chargpt_lightning.trainer.setup.can_draw", plotting.can_draw)


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
    assert saved == [("val, _x^2$$/version_0", True)] * 3
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
