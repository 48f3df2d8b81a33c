"""A home directory of its own for every test, and the command line as a user calls it.

Fixtures import this package, which takes seconds, because pytest-xdist reads this file before it starts its processes.
"""

import gc
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable
from multiprocessing.util import get_temp_dir
from pathlib import Path

import pytest

os.environ["OMP_NUM_THREADS"] = "1"  # threads of torch, here and in subprocesses: each core runs a process of tests
os.environ.pop("PYTHONUNBUFFERED", None)  # with it, a test would not see what is held back

from support import ROOT
from support.command_line import TINY, VERSE, Result
from support.reuse import reuse_what_runs_would_make

pytest_plugins = ["support.failures"]


@pytest.fixture(scope="session", autouse=True)
def default_signals():
    """Takes the signals that Python would take: a job in a shell's background, or under nohup, ignores them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    hangup = signal.signal(signal.SIGHUP, signal.SIG_DFL) if hasattr(signal, "SIGHUP") else None
    yield
    signal.signal(signal.SIGINT, before)
    if hangup is not None:
        signal.signal(signal.SIGHUP, hangup)


@pytest.fixture(scope="session")
def desk(tmp_path_factory) -> Path:
    """Where all tests of this process work, one after the other: a run copied from test to test keeps its paths."""
    get_temp_dir()  # multiprocessing's, made here because a test may have a temporary directory of its own
    return tmp_path_factory.mktemp("desk")


@pytest.fixture
def tmp_path(desk) -> Path:
    """The desk, empty."""
    return cleared(desk)


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    """An empty home, and a working directory with a text and, like a clone, with configs/."""
    settle(tmp_path, monkeypatch)


def cleared(directory: Path) -> Path:
    """Deletes what is in a directory."""
    try:
        shutil.rmtree(directory)
    except PermissionError:  # Windows: objects that wait for the garbage collector hold files open
        gc.collect()
        shutil.rmtree(directory)
    directory.mkdir()
    return directory


def settle(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes home and working directory below an empty directory, and saves what a run would spend on this machine."""
    for name in ("HOME", "USERPROFILE"):  # on Windows
        monkeypatch.setenv(name, str(directory / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(directory / "home" / "cache"))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(directory.parent / "inductor"))
    monkeypatch.setenv("DISABLE_MPS", "1")  # a Mac's GPU rounds differently, and has no float64
    work = directory / "work"
    work.mkdir()
    (work / "verse.txt").write_text(VERSE * 20, encoding="utf-8", newline="\n")
    shutil.copytree(ROOT / "configs", work / "configs")  # Windows requires rights for links
    monkeypatch.chdir(work)
    reuse_what_runs_would_make(monkeypatch)


def command_line(monkeypatch: pytest.MonkeyPatch, *args: str) -> int | str | None:
    """Runs the command line in this process; returns its exit code."""
    from chargpt_lightning.__main__ import main

    monkeypatch.setattr(sys, "argv", ["chargpt", *args])
    try:
        main()
    except SystemExit as exit:
        return exit.code
    finally:
        os.environ.pop("PL_GLOBAL_SEED", None)
        os.environ.pop("PL_SEED_WORKERS", None)
    return 0


@pytest.fixture
def run(capfd, monkeypatch):
    """Runs the command line in this process; returns exit code, stdout and stderr."""

    def run(*args: str) -> Result:
        capfd.readouterr()
        code = command_line(monkeypatch, *args)
        out, err = capfd.readouterr()
        return Result(code, out, err.replace(os.sep, "/"))

    return run


@pytest.fixture(scope="session")
def runs_of_tiny(desk, tmp_path_factory) -> Path:
    """The directory `runs` that TINY leaves."""
    kept = tmp_path_factory.mktemp("kept") / "runs"
    with pytest.MonkeyPatch.context() as monkeypatch:
        settle(cleared(desk), monkeypatch)
        assert command_line(monkeypatch, *TINY) == 0
        shutil.copytree("runs", kept)
    return kept


@pytest.fixture
def tiny_run(runs_of_tiny) -> Path:
    """The directory of a run of five updates, copied from the one that trained it."""
    shutil.copytree(runs_of_tiny, "runs")
    return Path("runs/version_0")


@pytest.fixture
def during(monkeypatch):
    """Calls `happens` within the updates of these numbers, once in each."""
    from chargpt_lightning import CharGPT

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
def for_two_devices(monkeypatch):
    """Seventeen windows to evaluate on: with two devices and batches of two, the last batch has one for one device."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "tests")]))
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


def pytest_collection_finish():
    """Spares the garbage collector the objects of all imported packages."""
    gc.collect()
    gc.freeze()


CALLED = {
    "chargpt": "chargpt",
    "python -m chargpt_lightning": "/here/chargpt_lightning/__main__.py",
    "python my/main.py": "my/main.py",
}


@pytest.fixture(params=CALLED)
def printed(request, monkeypatch, capfd):
    """Runs the command line, called as a command, as a module or in a script; returns its stdout."""
    from chargpt_lightning.__main__ import main

    def printed(*args: str) -> str:
        monkeypatch.setattr(sys, "argv", [CALLED[request.param], *args])
        with pytest.raises(SystemExit, match="0"):
            main()
        return capfd.readouterr().out

    printed.prog = request.param
    return printed
