"""What other systems do otherwise: encodings, drives, locks."""

import os
from pathlib import Path

import pytest
from support.command_line import TINY

from chargpt_lightning.utils.run_dir import relative_to_cwd, release_directory


def test_a_runs_settings_are_the_same_in_every_encoding(run):
    text = Path("verse.txt").rename("Zoë.txt")
    assert run(*TINY, "--data.text", str(text)).code == 0
    assert Path("runs/version_0/config.yaml").read_bytes().isascii()
    resumed = run("fit", "--ckpt_path", "last", "--trainer.max_steps", "6")
    assert resumed.code == 0, resumed.err
    assert "data.text" not in resumed.err


def test_a_path_that_leads_to_another_drive_is_said_whole(monkeypatch):
    assert relative_to_cwd(Path("a", "b").absolute()) == Path("a", "b")

    def relpath(path):
        raise ValueError(f"path is on mount 'D:', start on mount 'C:': {path}")

    monkeypatch.setattr(os.path, "relpath", relpath)
    whole = Path("a").absolute()
    assert relative_to_cwd(whole) == whole


@pytest.mark.parametrize("left", [[], [".lock"], [".lock", "metrics.csv"]])
def test_a_run_that_wrote_nothing_leaves_nothing_whatever_becomes_of_a_lock(left):
    run = Path("runs/version_0")
    run.mkdir(parents=True)
    for name in left:
        (run / name).touch()
    release_directory(run)
    assert run.exists() == ("metrics.csv" in left)
