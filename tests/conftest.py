"""A home of its own for every test, and the command line as a user has it."""

import csv
import os
import pickle
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

os.environ["OMP_NUM_THREADS"] = "1"  # of torch, here and in what tests start: the cores have a process of tests each

from chargpt_lightning import CharGPT
from chargpt_lightning.__main__ import main
from chargpt_lightning.callbacks.throughput import CLOCKED

ROOT = Path(__file__).parent.parent
VERSE = "When shall we three meet again?\nIn thunder, lightning, or in rain?\n"

TINY = [
    *("fit", "--trainer.accelerator", "cpu", "--data.text", "verse.txt"),
    *("--model.n_layer", "1", "--model.n_head", "2", "--model.n_embd", "8", "--model.block_size", "8"),
    *("--data.batch_size", "2", "--data.eval_iters", "2", "--model.warmup_iters", "2"),
    *("--trainer.max_steps", "5", "--trainer.val_check_interval", "2", "--trainer.log_every_n_steps", "1"),
    *("--trainer.precision", "32-true"),  # the same on every machine
]
FAST = ["--model.architecture", "modern", "--model.optimizer", "muon", "--model.lr_decay", "linear"]


def not_on_windows(reason: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(sys.platform == "win32", reason=f"Windows: {reason}")


posix = not_on_windows("no such signals, pipes, limits and rights")
compiles = not_on_windows("torch.compile takes Visual C++ set up in the shell")
several_devices = not_on_windows("torch starts no several devices, its torchrun and TCPStore lack libuv")


@dataclass
class Result:
    """What a command left behind; in messages `/` stands between the parts of a path, as everywhere but on Windows."""

    code: int
    out: str
    err: str


def rows(run_dir: Path) -> list[dict[str, str]]:
    """The rows of a run's metrics.csv."""
    with (run_dir / "metrics.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def exact_rows(run_dir: Path) -> list[dict[str, str]]:
    """The rows of a run's metrics.csv, without what the clock says."""
    return [{name: figure for name, figure in row.items() if name not in CLOCKED} for row in rows(run_dir)]


def meta(alphabet: str) -> dict[str, object]:
    """What nanoGPT pickles as meta.pkl."""
    stoi = {character: id for id, character in enumerate(alphabet)}
    return {"vocab_size": len(alphabet), "itos": dict(enumerate(alphabet)), "stoi": stoi}


def prepare(folder: str, text: str, alphabet: str | None = None, border: int | None = None) -> Path:
    """Makes a data folder as nanoGPT's prepare.py does, or with another alphabet or border."""
    alphabet = "".join(sorted(set(text))) if alphabet is None else alphabet
    border = int(len(text) * 0.9) if border is None else border
    path = Path(folder)
    path.mkdir(parents=True)
    for name, part in (("train.bin", text[:border]), ("val.bin", text[border:])):
        np.array([alphabet.index(character) for character in part], np.uint16).tofile(path / name)
    (path / "meta.pkl").write_bytes(pickle.dumps(meta(alphabet)))
    return path


def files() -> set[str]:
    return {str(path) for path in Path().rglob("*")}


def refused(run, *args: str) -> str:
    """Runs a command that must fail; gives its one line."""
    before = files()
    result = run(*args)
    assert result.code in (1, 2)
    assert result.out == ""
    said = [line for line in result.err.splitlines() if not line.startswith("checkpoint: ")]
    assert len(said) == 1, result.err
    assert said[0].startswith("error: ")
    assert files() == before
    return said[0].removeprefix("error: ")


@contextmanager
def full_disk() -> Iterator[None]:
    """No file grows beyond what the small ones need: a write beyond it is an OSError, as on a full disk."""
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


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
