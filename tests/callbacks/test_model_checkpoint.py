"""best.ckpt is never replaced by a worse network, and no file outside of the run is deleted."""

import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from support.command_line import ONE_MORE, TINY

CHECKPOINTS = Path("runs/version_0/checkpoints")
RUIN = ["--model.learning_rate", "10", "--model.min_lr", "10", "--trainer.max_steps", "9"]


def content(name: str) -> dict:
    return torch.load(CHECKPOINTS / f"{name}.ckpt", weights_only=True)


def key(states: dict) -> str:
    (found,) = (name for name in states if name.startswith("BestAndLast"))
    return found


def never_saved(states: dict) -> None:
    """As in a file that a user's ModelCheckpoint saves before best.ckpt is saved."""
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
    """best.ckpt is of step 6 and last.ckpt of step 4, from which the run resumes and gets worse."""
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
def test_a_best_that_cannot_be_read_is_refused_and_not_replaced(run, tiny_run, damage):
    path = CHECKPOINTS / "best.ckpt"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    else:
        torch.save(content("best") | {"callbacks": {}}, path)
    before = {path: path.read_bytes() for path in tiny_run.rglob("*") if path.is_file()}
    result = run(*ONE_MORE)
    assert result.code == 1
    error = result.err.splitlines()[-1]
    assert error.startswith("error: ")
    assert "best.ckpt" in error
    assert error.endswith("; the run would replace it: move it away to resume without it")
    assert {path: path.read_bytes() for path in tiny_run.rglob("*") if path.is_file()} == before
    path.rename("damaged.ckpt")
    assert run(*ONE_MORE).code == 0
    assert content("best")["global_step"] == 6


def test_the_summary_leaves_out_a_best_that_cannot_be_read(run, during):
    during(4, happens=lambda: (CHECKPOINTS / "best.ckpt").write_bytes(b"damage"))
    ruin = ["--model.learning_rate", "10", "--model.min_lr", "10"]
    result = run(*TINY, *ruin)
    assert result.code == 0
    assert "best val loss" not in result.err
    assert "best.ckpt) must be an intact checkpoint file" in result.err


def test_a_resumed_run_that_gets_worse_keeps_its_best(run, tiny_run):
    best = (CHECKPOINTS / "best.ckpt").read_bytes()
    result = run("fit", "--ckpt_path", "last", *RUIN, "--trainer.max_steps", "20")
    assert result.code == 0, result.err
    assert (CHECKPOINTS / "best.ckpt").read_bytes() == best
    assert f"at step {content('best')['global_step']}: runs/version_0/checkpoints/best.ckpt" in result.err


def keeper(**arguments: object) -> dict:
    monitored = {"monitor": "step", "mode": "max"}
    return {"callbacks": [{"class_path": "ModelCheckpoint", "init_args": monitored | arguments}]}


@pytest.mark.parametrize("victim", ["local://{}/elsewhere", "{}/kept/../elsewhere", "{}/elsewhere"])
def test_a_checkpoint_deletes_nothing_beyond_its_run(run, victim):
    """A user's ModelCheckpoint deletes the file that it has saved as its worst once there is a better one."""
    Path("keep.yaml").write_text(yaml.safe_dump({"trainer": keeper(dirpath="kept")}), encoding="utf-8")
    assert run(*TINY, "--config", "keep.yaml").code == 0
    shutil.copytree("configs", "elsewhere")
    path = victim.format(Path.cwd())
    checkpoint = content("last")
    (state,) = (state for name, state in checkpoint["callbacks"].items() if name.startswith("ModelCheckpoint"))
    state |= {"best_k_models": {path: torch.tensor(0.0)}, "kth_best_model_path": path, "kth_value": torch.tensor(0.0)}
    torch.save(checkpoint, CHECKPOINTS / "last.ckpt")
    assert run(*ONE_MORE, "--config", "keep.yaml").code == 0
    assert Path("elsewhere/shakespeare_char.yaml").exists()


@pytest.mark.parametrize("score", [float("nan"), float("-inf")])
def test_a_best_without_a_finite_loss_is_refused(run, tiny_run, score):
    best = CHECKPOINTS / "best.ckpt"
    checkpoint = torch.load(best, weights_only=True)
    (state,) = (state for name, state in checkpoint["callbacks"].items() if name.startswith("BestAndLast"))
    state["best_model_score"] = torch.tensor(score)
    torch.save(checkpoint, best)
    before = {path: path.read_bytes() for path in tiny_run.rglob("*") if path.is_file()}
    result = run(*ONE_MORE)
    assert (result.code, "does not contain its val loss" in result.err.splitlines()[-1]) == (1, True)
    assert {path: path.read_bytes() for path in tiny_run.rglob("*") if path.is_file()} == before


def test_the_end_is_saved_without_any_evaluation(run):
    assert run(*TINY, "--trainer.limit_val_batches", "0").code == 0
    assert torch.load("runs/version_0/checkpoints/last.ckpt", weights_only=True)["global_step"] == 5
    assert "checkpoint: runs/version_0/checkpoints/last.ckpt" in run("validate", "--trainer.accelerator", "cpu").err


def test_best_is_the_checkpoint_of_the_lowest_val_loss(run):
    Path("verse.txt").write_text("a" * 900 + "ba" * 50, encoding="utf-8")
    result = run(*TINY, "--trainer.max_steps", "12")
    losses = {
        int(step): float(loss) for step, loss in re.findall(r"^step (\d+): .* val loss (.*)$", result.err, re.MULTILINE)
    }
    del losses[0]  # an untrained network is not saved
    best = torch.load("runs/version_0/checkpoints/best.ckpt", weights_only=True)
    assert losses[best["global_step"]] == min(losses.values())
    assert best["global_step"] == 2, "a network that learns that letters repeat gets worse where they change"


def test_weights_that_are_not_finite_replace_no_checkpoint(run, tiny_run, interrupt):
    last = (tiny_run / "checkpoints/last.ckpt").read_bytes()
    interrupt(5)
    ruin = ["--model.learning_rate", "1e38", "--model.min_lr", "1e38", "--model.weight_decay", "1e9"]
    more = ["--trainer.max_steps", "9", "--trainer.val_check_interval", "1000"]
    result = run("fit", "--ckpt_path", "last", *more, *ruin)
    assert result.code == 1
    assert result.err.splitlines()[-1].startswith("error: weights at step 6 must be finite to be saved; the last good")
    assert (tiny_run / "checkpoints/last.ckpt").read_bytes() == last


def test_a_callback_whose_state_could_not_be_resumed_ends_the_run_in_one_line(run):
    result = run(*TINY, "--trainer.callbacks", "support.callbacks.Unsavable")
    assert result.code == 1
    assert result.err.endswith(
        "error: the state of callback Unsavable must consist of numbers, texts, tensors, "
        "and lists, tuples, sets and dicts of these, or a run could not be resumed\n"
    )
    assert not list(CHECKPOINTS.glob("*.ckpt"))
