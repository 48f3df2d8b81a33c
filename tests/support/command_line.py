"""The command line as a user has it, and what it leaves behind."""

import csv
from dataclasses import dataclass
from pathlib import Path

import torch

from chargpt_lightning.utils.metrics import TIMING

VERSE = "When shall we three meet again?\nIn thunder, lightning, or in rain?\n"
TINY = [
    *("fit", "--trainer.accelerator", "cpu", "--data.text", "verse.txt"),
    *("--model.n_layer", "1", "--model.n_head", "2", "--model.n_embd", "8", "--model.block_size", "8"),
    *("--data.batch_size", "2", "--data.eval_iters", "2", "--model.warmup_iters", "2"),
    *("--trainer.max_steps", "5", "--trainer.val_check_interval", "2", "--trainer.log_every_n_steps", "1"),
    *("--trainer.precision", "32-true"),  # the same on every machine
]
FAST = ["--model.architecture", "modern", "--model.optimizer", "muon", "--model.lr_decay", "linear"]


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
    return [{name: figure for name, figure in row.items() if name not in TIMING} for row in rows(run_dir)]


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


def states(run_dir: Path) -> dict[str, dict]:
    return {name: torch.load(run_dir / f"checkpoints/{name}.ckpt", weights_only=True) for name in ("best", "last")}


def assert_same_run(one: Path, other: Path) -> None:
    assert exact_rows(one) == exact_rows(other)
    for name, state in states(one).items():
        theirs = states(other)[name]
        assert state["global_step"] == theirs["global_step"]
        for part in ("state_dict", "optimizer_states", "lr_schedulers", "loops", "current_model_state"):
            torch.testing.assert_close(theirs.get(part), state.get(part), rtol=0, atol=0)
