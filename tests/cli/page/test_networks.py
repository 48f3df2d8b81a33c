"""The runs that the page lists, and the networks that it loads."""

import shutil
from pathlib import Path

import pytest
from support.command_line import TINY

from chargpt_lightning.cli.page import networks
from chargpt_lightning.cli.page.networks import labeled_runs, load
from chargpt_lightning.utils.errors import ConfigError


def test_runs_are_listed_newest_first_with_their_best_val_loss(run, tiny_run):
    metrics = tiny_run / "metrics.csv"
    metrics.write_text("step,val/loss\n1,2.5\n2,1.25\n3,1.5\n", encoding="utf-8")
    assert run(*TINY, "--trainer.default_root_dir", "runs/more").code == 0
    Path("runs/more/version_0/metrics.csv").write_text("step,val/loss\n", encoding="utf-8")
    expected = [("runs/more/version_0", "runs/more/version_0"), (f"{tiny_run}, val loss 1.2500", str(tiny_run))]
    assert labeled_runs(Path("runs")) == labeled_runs(Path("runs").absolute()) == expected
    assert labeled_runs(Path("nowhere")) == []


def test_runs_whose_path_is_not_utf_8_are_left_out(monkeypatch):
    paths = ["runs/後 👩\u200d👩", "runs/\udcff"]
    monkeypatch.setattr(networks, "runs_below", lambda root: [Path(path) for path in paths])
    assert labeled_runs(Path("runs")) == [(paths[0], paths[0])]


def test_a_network_is_read_once_until_its_file_is_replaced(run, tiny_run):
    network = load("runs/version_0")
    assert not network.training
    assert load("runs/version_0") is network
    assert load(str(tiny_run / "checkpoints/best.ckpt")) is network
    assert run(*TINY, "--model.n_embd", "4").code == 0
    shutil.copy("runs/version_1/checkpoints/best.ckpt", tiny_run / "checkpoints/best.ckpt")
    assert load("runs/version_0").hparams["n_embd"] == 4


def test_a_network_of_nanogpt_is_loaded_and_a_missing_one_refused(run, tiny_run):
    assert run("export", "--format", "nanogpt", "--out", "nano").code == 0
    assert load("nano/ckpt.pt").sample("When") == load("runs/version_0").sample("When")
    Path("nano/ckpt.pt").unlink()
    with pytest.raises(ConfigError, match=r"ckpt_path \(nano/ckpt.pt\) must be a checkpoint file"):
        load("nano/ckpt.pt")
