"""best.ckpt: never replaced by a worse network, whatever checkpoint a run resumes from."""

import shutil
from pathlib import Path

import pytest
import torch
from support.command_line import TINY

CHECKPOINTS = Path("runs/version_0/checkpoints")
RUIN = ["--model.learning_rate", "10", "--model.min_lr", "10", "--trainer.max_steps", "9"]


def content(name: str) -> dict:
    return torch.load(CHECKPOINTS / f"{name}.ckpt", weights_only=True)


def key(states: dict) -> str:
    (found,) = (name for name in states if name.startswith("BestAndLast"))
    return found


def never_saved(states: dict) -> None:
    """As a ModelCheckpoint of the user's has it that is saved before best.ckpt is."""
    states[key(states)] |= {"best_model_score": None, "best_model_path": "", "best_k_models": {}}


def worse(states: dict) -> None:
    states[key(states)] |= {"best_model_score": torch.tensor(99.0)}


def absent(states: dict) -> None:
    del states[key(states)]


@pytest.mark.parametrize("remembers", [never_saved, worse, absent])
def test_the_loss_to_beat_is_that_of_the_file(run, tiny_run, remembers):
    other = content("last")
    remembers(other["callbacks"])
    torch.save(other, CHECKPOINTS / "other.ckpt")
    kept, best = (CHECKPOINTS / "best.ckpt").read_bytes(), content("best")
    result = run("fit", "--ckpt_path", str(CHECKPOINTS / "other.ckpt"), *RUIN)
    assert result.code == 0
    assert (CHECKPOINTS / "best.ckpt").read_bytes() == kept
    loss = float(best["callbacks"]["Report"]["val_losses"][best["global_step"]])
    assert f"best val loss {loss:.4f} at step {best['global_step']}: {CHECKPOINTS.as_posix()}/best.ckpt" in result.err
    last = content("last")
    assert last["global_step"] == 9
    assert last["callbacks"][key(last["callbacks"])]["best_model_score"].item() == loss, "not rounded to float32"


def test_after_a_kill_between_the_two_saves_the_newer_best_stays(run):
    """best.ckpt is of step 6 and last.ckpt of step 4: the run goes on from there, and gets worse."""
    assert run(*TINY, "--trainer.max_steps", "4").code == 0
    shutil.copy(CHECKPOINTS / "last.ckpt", "before.ckpt")
    assert run("fit", "--ckpt_path", "last", "--trainer.max_steps", "6").code == 0
    assert content("best")["global_step"] == 6
    shutil.copy("before.ckpt", CHECKPOINTS / "last.ckpt")
    kept = (CHECKPOINTS / "best.ckpt").read_bytes()
    result = run("fit", "--ckpt_path", "last", *RUIN)
    assert "resuming runs/version_0 at step 4" in result.err
    assert (CHECKPOINTS / "best.ckpt").read_bytes() == kept
    loss = content("best")["callbacks"]["Report"]["val_losses"][6]
    assert f"best val loss {loss:.4f} at step 6: " in result.err


def test_a_better_network_still_replaces_it(run, tiny_run):
    kept = content("best")
    kept["callbacks"][key(kept["callbacks"])]["best_model_score"] = torch.tensor(999.0)
    torch.save(kept, CHECKPOINTS / "best.ckpt")
    result = run("fit", "--ckpt_path", "last", *RUIN, "--trainer.max_steps", "6")
    loss = content("best")["callbacks"]["Report"]["val_losses"][6]
    assert f"best val loss {loss:.4f} at step 6: " in result.err
    assert {path.name for path in CHECKPOINTS.iterdir()} == {"best.ckpt", "last.ckpt"}


@pytest.mark.parametrize("damage", ["cut", "no loss"])
def test_a_best_that_cannot_be_read_is_not_replaced_but_said(run, tiny_run, damage):
    path = CHECKPOINTS / "best.ckpt"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    else:
        torch.save(content("best") | {"callbacks": {}}, path)
    before = {path: path.read_bytes() for path in tiny_run.rglob("*") if path.is_file()}
    result = run("fit", "--ckpt_path", "last", "--trainer.max_steps", "6")
    assert result.code == 1
    error = result.err.splitlines()[-1]
    assert error.startswith("error: ")
    assert "best.ckpt" in error
    assert error.endswith("; the run would replace it: move it away to resume without it")
    assert {path: path.read_bytes() for path in tiny_run.rglob("*") if path.is_file()} == before
    path.rename("damaged.ckpt")
    assert run("fit", "--ckpt_path", "last", "--trainer.max_steps", "6").code == 0
    assert content("best")["global_step"] == 6


def test_the_summary_is_left_out_if_best_is_gone_by_then(run, during):
    during(4, happens=lambda: (CHECKPOINTS / "best.ckpt").write_bytes(b"damage"))
    ruin = ["--model.learning_rate", "10", "--model.min_lr", "10"]
    result = run(*TINY, *ruin)
    assert result.code == 0
    assert "best val loss" not in result.err
    assert "best.ckpt) must be an intact checkpoint file" in result.err
