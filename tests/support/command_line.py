"""The command line as a user calls it, and the files of its runs; functions import what takes long."""

import csv
from dataclasses import dataclass
from functools import partial
from pathlib import Path

VERSE = "When shall we three meet again?\nIn thunder, lightning, or in rain?\n"
TINY = [
    *("fit", "--trainer.accelerator", "cpu", "--data.text", "verse.txt"),
    *("--model.n_layer", "1", "--model.n_head", "2", "--model.n_embd", "8", "--model.block_size", "8"),
    *("--data.batch_size", "2", "--data.eval_iters", "2", "--model.warmup_iters", "2"),
    *("--trainer.max_steps", "5", "--trainer.val_check_interval", "2", "--trainer.log_every_n_steps", "1"),
    *("--trainer.precision", "32-true"),  # the same on every machine
]
ONE_MORE = ["fit", "--ckpt_path", "last", "--trainer.max_steps", "6"]  # resumes TINY for one update
FAST = ["--model.architecture", "modern", "--model.optimizer", "muon", "--model.lr_decay", "linear"]
N_GRAMS = ["--model.n_gram", "3", "--model.n_gram_dropout", "0.5"]  # of the modern network


@dataclass
class Result:
    """A command's exit code and output; the paths in its messages have slashes on Windows too."""

    code: int
    out: str
    err: str


def rows(run_dir: Path) -> list[dict[str, str]]:
    """The rows of a run's metrics.csv."""
    with (run_dir / "metrics.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def exact_rows(run_dir: Path) -> list[dict[str, str]]:
    """The rows of a run's metrics.csv without the timing columns."""
    from chargpt_lightning.utils.metrics import TIMING

    return [{name: figure for name, figure in row.items() if name not in TIMING} for row in rows(run_dir)]


def files() -> set[str]:
    """All paths below the working directory."""
    return {str(path) for path in Path().rglob("*")}


def refused(run, *args: str) -> str:
    """Runs a command that must fail with one line and leave all files as they are; returns the line."""
    before = files()
    result = run(*args)
    assert result.code in (1, 2), f"it was not refused: {result}"
    assert result.out == ""
    lines = [line for line in result.err.splitlines() if not line.startswith("checkpoint: ")]
    assert len(lines) == 1, result.err
    assert lines[0].startswith("error: ")
    assert files() == before, "it wrote or deleted files"
    return lines[0].removeprefix("error: ")


def states(run_dir: Path) -> dict[str, dict]:
    """The contents of a run's best.ckpt and last.ckpt, if it has them."""
    import torch

    paths = [path for name in ("best", "last") for path in run_dir.glob(f"checkpoints/{name}.ckpt")]
    return {path.stem: torch.load(path, weights_only=True) for path in paths}


def assert_same_run(one: Path, other: Path) -> None:
    """Asserts that two runs have the same rows and the same checkpoints, bit for bit."""
    from torch.testing import assert_close

    assert exact_rows(one) == exact_rows(other)
    assert states(one).keys() == states(other).keys()
    for name, state in states(one).items():
        expected = states(other)[name]
        assert state["global_step"] == expected["global_step"], name
        for part in ("state_dict", "optimizer_states", "lr_schedulers", "current_model_state"):
            named = partial("{}.ckpt, {}: {}".format, name, part)
            assert_close(state.get(part), expected.get(part), rtol=0, atol=0, msg=named)
        for count in ("epoch_progress", "epoch_loop.batch_progress", "epoch_loop.state_dict"):
            assert state["loops"]["fit_loop"][count] == expected["loops"]["fit_loop"][count], (name, count)
