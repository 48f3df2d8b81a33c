"""A home of its own for every test, and the command line as a user has it."""

import os
import re
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ["OMP_NUM_THREADS"] = "1"  # of torch, here and in what tests start: the cores have a process of tests each

from support import ROOT
from support.command_line import TINY, VERSE, Result

from chargpt_lightning import CharGPT
from chargpt_lightning.__main__ import main


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    """An empty home, an empty working directory with a text in it, and configs/ where a clone has it."""
    for name in ("HOME", "USERPROFILE"):  # Windows' word for it
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home" / "cache"))
    monkeypatch.setenv("DISABLE_MPS", "1")  # a Mac's GPU rounds otherwise, and has no float64
    work = tmp_path / "work"
    work.mkdir()
    (work / "verse.txt").write_text(VERSE * 20, encoding="utf-8", newline="\n")
    shutil.copytree(ROOT / "configs", work / "configs")  # to link them takes rights on Windows
    monkeypatch.chdir(work)


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    """Runs draw no curves, which take a third of a second at each evaluation; test_curves.py has them drawn."""
    monkeypatch.setattr("chargpt_lightning.trainer.setup.can_draw", lambda: False)


@pytest.fixture
def run(capfd, monkeypatch):
    """Runs the command line in this process; gives exit code, stdout and stderr."""

    def run(*args: str) -> Result:
        monkeypatch.setattr(sys, "argv", ["chargpt", *args])
        capfd.readouterr()
        code = 0
        try:
            main()
        except SystemExit as exit:
            code = exit.code
        finally:
            os.environ.pop("PL_GLOBAL_SEED", None)
            os.environ.pop("PL_SEED_WORKERS", None)
        out, err = capfd.readouterr()
        return Result(code, out, err.replace(os.sep, "/"))

    return run


@pytest.fixture
def tiny_run(run) -> Path:
    """The directory of a run of five updates."""
    assert run(*TINY).code == 0
    return Path("runs/version_0")


@pytest.fixture
def during(monkeypatch):
    """Has something happen within the updates of these numbers, each once."""

    def during(*steps: int, happens: Callable[[], object]) -> None:
        left = set(steps)
        step = CharGPT.training_step

        def training_step(module, batch, batch_idx):
            if module.global_step in left:
                left.remove(module.global_step)
                happens()
            return step(module, batch, batch_idx)

        monkeypatch.setattr(CharGPT, "training_step", training_step)

    return during


@pytest.fixture
def interrupt(during):
    """Presses Ctrl-C within the updates of these numbers."""
    return lambda *steps: during(*steps, happens=lambda: signal.raise_signal(signal.SIGINT))


@pytest.fixture
def two_devices(monkeypatch):
    """Seventeen windows to evaluate on: with two devices and batches of two, the last batch has one for one device."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    Path("verse.txt").write_text(VERSE * 21, encoding="utf-8")
    text = (ROOT / "docs" / "devices.md").read_text(encoding="utf-8")
    (sharded,) = re.findall(r"```yaml\n(.*?ModelParallelStrategy.*?)```", text, re.DOTALL)
    Path("fsdp2.yaml").write_text(sharded, encoding="utf-8")
