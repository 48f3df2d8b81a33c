"""A home directory of its own for every test, and the command line as a user calls it."""

import os
import re
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ["OMP_NUM_THREADS"] = "1"  # threads of torch, here and in subprocesses: each core runs a process of tests

from support import ROOT
from support.command_line import TINY, VERSE, Result

from chargpt_lightning import CharGPT
from chargpt_lightning.__main__ import main


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    """An empty home, and a working directory with a text and, like a clone, with configs/."""
    for name in ("HOME", "USERPROFILE"):  # on Windows
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home" / "cache"))
    monkeypatch.setenv("DISABLE_MPS", "1")  # a Mac's GPU rounds differently, and has no float64
    work = tmp_path / "work"
    work.mkdir()
    (work / "verse.txt").write_text(VERSE * 20, encoding="utf-8", newline="\n")
    shutil.copytree(ROOT / "configs", work / "configs")  # Windows requires rights for links
    monkeypatch.chdir(work)


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    """Runs draw no curves, which take a third of a second at each evaluation, except in test_curves.py."""
    monkeypatch.setattr("chargpt_lightning.trainer.setup.can_draw", lambda: False)


@pytest.fixture
def run(capfd, monkeypatch):
    """Runs the command line in this process; returns exit code, stdout and stderr."""

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
    """Calls `happens` within the updates of these numbers, once in each."""

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


@pytest.fixture
def wandb_offline(monkeypatch):
    """W&B stays on this machine, and its run ends with the test, as it does with a user's process."""
    import wandb  # which takes a second

    monkeypatch.setenv("WANDB_MODE", "offline")
    yield
    wandb.finish()
    wandb.teardown()


@pytest.fixture
def books() -> list[str]:
    """The verse cut in three files, in the order of their paths, beside files that a pattern leaves out."""
    Path("books/late").mkdir(parents=True)
    names = ["books/1.txt", "books/2.txt", "books/late/3.txt"]
    for name, start, end in zip(names, (0, 500, 501), (500, 501, None), strict=True):
        Path(name).write_text((VERSE * 20)[start:end], encoding="utf-8")
    Path("books/notes.md").write_text("not this\n", encoding="utf-8")
    Path("books/.hidden.txt").write_text("nor this\n", encoding="utf-8")
    Path("books/folder.txt").mkdir()
    return names


CALLED = {"chargpt": "/usr/bin/chargpt", "python -m chargpt_lightning": "/here/chargpt_lightning/__main__.py"}


@pytest.fixture(params=CALLED)
def printed(request, monkeypatch, capfd):
    """Runs the command line, called as a command or as a module; returns its stdout."""

    def printed(*args: str) -> str:
        monkeypatch.setattr(sys, "argv", [CALLED[request.param], *args])
        with pytest.raises(SystemExit, match="0"):
            main()
        return capfd.readouterr().out

    printed.prog = request.param
    return printed
