"""`fit` from a checkpoint older than its run's last.ckpt continues in a new directory; the old run is unchanged."""

import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from support.command_line import TINY, assert_same_run, exact_rows, rows

from chargpt_lightning.utils.run_dir import lock_directory

OLD, NEW = Path("runs/version_0"), Path("runs/version_1")
RUIN = ["--model.learning_rate", "10", "--model.min_lr", "10"]
MORE = ["--trainer.max_steps", "9"]


def content(path: Path) -> dict:
    return torch.load(path, weights_only=True)


def with_checkpoints(directory: str | None = None, **more: object) -> list[str]:
    """Flags for a ModelCheckpoint that keeps the last three evaluations by their steps."""
    given = {"dirpath": directory, "monitor": "step", "mode": "max", "save_top_k": 3, **more}
    arguments = given | {"filename": "{step:.0f}", "auto_insert_metric_name": False}
    callbacks = [{"class_path": "ModelCheckpoint", "init_args": arguments}]
    Path("keep.yaml").write_text(yaml.safe_dump({"trainer": {"callbacks": callbacks}}), encoding="utf-8")
    return ["--config", "keep.yaml"]


@pytest.fixture
def old(run) -> dict[Path, bytes]:
    """A run of eight updates that also kept step 4; returns all its files."""
    assert run(*TINY, *with_checkpoints(), "--trainer.max_steps", "8").code == 0
    return files(OLD)


def files(directory: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.mark.parametrize("place", ["checkpoints/4.ckpt", "../hpc_ckpt_1.ckpt"], ids=["kept", "SLURM's"])
def test_a_branch_equals_the_uninterrupted_run_and_the_old_run_is_unchanged(run, old, place):
    shutil.copy(OLD / "checkpoints/4.ckpt", OLD / place) if "hpc" in place else None
    result = run("fit", "--ckpt_path", str(OLD / place))
    assert result.code == 0
    line = (
        "branching off runs/version_0 at step 4, in a new directory; runs/version_0 is not changed and ends at step 8"
    )
    assert line in result.err.splitlines()
    assert "run: runs/version_1" in result.err.splitlines()
    assert "changed: " not in result.err
    assert files(OLD) == old
    assert_same_run(OLD, NEW)
    again = run("fit", "--ckpt_path", "last", *MORE)
    assert "resuming runs/version_1 at step 8" in again.err
    assert files(OLD) == old
    assert [row["step"] for row in rows(NEW) if row["train/loss"]] == [str(step) for step in range(9)]


def test_a_branch_begins_with_the_rows_up_to_its_checkpoint(run, old, during):
    during(4, happens=lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run("fit", "--ckpt_path", str(OLD / "checkpoints/4.ckpt"))
    assert run(*TINY, "--trainer.max_steps", "4").code == 0
    assert exact_rows(NEW) == exact_rows(Path("runs/version_2"))
    resumed = run("fit", "--ckpt_path", str(NEW / "checkpoints/last.ckpt"))
    assert "resuming runs/version_1 at step 4" in resumed.err, "killed at once, it is still at its start"
    assert_same_run(OLD, NEW)


def test_a_branch_from_best_keeps_it_as_its_best(run):
    assert run(*TINY, "--trainer.max_steps", "4").code == 0
    assert run("fit", "--ckpt_path", "last", "--trainer.max_steps", "8", *RUIN).code == 0
    before, best = files(OLD), content(OLD / "checkpoints/best.ckpt")
    assert best["global_step"] == 4
    result = run("fit", "--ckpt_path", "best", *MORE)  # the ruinous rate is one of the run's settings
    assert "branching off runs/version_0 at step 4" in result.err
    assert files(OLD) == before
    torch.testing.assert_close(content(NEW / "checkpoints/best.ckpt")["state_dict"], best["state_dict"])
    assert re.search(r"^best val loss .* at step 4: runs/version_1/checkpoints/best.ckpt$", result.err, re.MULTILINE)


def test_if_best_is_later_the_branch_begins_with_its_checkpoint_as_best(run, old):
    assert content(OLD / "checkpoints/best.ckpt")["global_step"] == 8
    start = content(OLD / "checkpoints/4.ckpt")
    result = run("fit", "--ckpt_path", str(OLD / "checkpoints/4.ckpt"), *RUIN)
    (loss,) = (float(row["val/loss"]) for row in rows(NEW) if row["val/loss"] and row["step"] == "4")
    assert f"best val loss {loss:.4f} at step 4: runs/version_1/checkpoints/best.ckpt" in result.err
    torch.testing.assert_close(content(NEW / "checkpoints/best.ckpt")["state_dict"], start["state_dict"])


def test_a_damaged_best_of_the_old_run_is_reported_and_unchanged(run, old):
    (OLD / "checkpoints/best.ckpt").write_bytes(b"damage")
    before = files(OLD)
    result = run("fit", "--ckpt_path", str(OLD / "checkpoints/4.ckpt"))
    assert result.code == 0
    assert "best.ckpt) must be an intact checkpoint file that contains no code; the branch begins" in result.err
    assert files(OLD) == before


def test_at_the_last_step_a_run_continues_in_its_own_directory(run, old):
    result = run("fit", "--ckpt_path", "best", *MORE)
    assert "resuming runs/version_0 at step 8" in result.err
    assert not NEW.exists()


def test_a_last_checkpoint_that_cannot_be_read_is_not_replaced(run, old):
    last = OLD / "checkpoints/last.ckpt"
    last.write_bytes(b"damage")
    result = run("fit", "--ckpt_path", "best", *MORE)
    assert (result.code, last.read_bytes()) == (1, b"damage")
    assert result.err.endswith(f"; to resume from {OLD.as_posix()}/checkpoints/best.ckpt without it, move it away\n")


def test_a_run_can_be_branched_while_another_process_trains_it(run, old):
    lock = lock_directory(OLD)
    assert run("fit", "--ckpt_path", str(OLD / "checkpoints/4.ckpt")).code == 0
    lock.release()
    assert_same_run(OLD, NEW)


@pytest.mark.parametrize("then", ["a branch", "a branch that resumes", "a new run"])
def test_no_other_run_deletes_checkpoints_that_a_users_callback_keeps(run, then):
    """The last three of steps 2 to 8 are kept; a run from step 4 saves others, more than may be kept."""
    assert run(*TINY, *with_checkpoints("mine"), "--trainer.max_steps", "8").code == 0
    assert {path.name for path in Path("mine").iterdir()} == {"4.ckpt", "6.ckpt", "8.ckpt"}
    kept = files(Path("mine"))
    start = OLD / "checkpoints/4.ckpt"
    shutil.copy("mine/4.ckpt", start if "branch" in then else "carried.ckpt")
    if then == "a new run":
        fit = [*TINY, *with_checkpoints("mine"), "--ckpt_path", "carried.ckpt"]
    else:
        fit = ["fit", "--ckpt_path", str(start), "--config", "keep.yaml"]
    assert run(*fit, "--trainer.max_steps", "4" if "new" in then else "6").code == 0
    if then == "a branch that resumes":
        assert run("fit", "--ckpt_path", "last", "--config", "keep.yaml", "--trainer.max_steps", "12").code == 0
    assert files(Path("mine")).items() >= kept.items()
