"""When a run evaluates, what it prints of each evaluation, and its summary."""

import re
from pathlib import Path

import pytest
import torch
from support.command_line import TINY, rows


@pytest.mark.parametrize(
    ("max_steps", "interval", "evaluated"), [(5, 2, [0, 2, 4, 5]), (4, 2, [0, 2, 4]), (1, 2, [0, 1]), (3, 50, [0, 3])]
)
def test_a_run_evaluates_before_the_first_update_at_the_interval_and_after_the_last(
    run, max_steps, interval, evaluated
):
    result = run(*TINY, "--trainer.max_steps", str(max_steps), "--trainer.val_check_interval", str(interval))
    assert result.code == 0
    assert re.findall(r"^step (\d+): train loss \d\.\d{4}, val loss \d\.\d{4}$", result.err, re.MULTILINE) == [
        str(step) for step in evaluated
    ]
    logged = [row for row in rows(Path("runs/version_0")) if row["val/loss"]]
    assert [int(row["step"]) for row in logged] == evaluated
    assert all(row["train_eval/loss"] for row in logged)
    last = torch.load("runs/version_0/checkpoints/last.ckpt", weights_only=True)
    assert last["global_step"] == max_steps


def test_the_summary_has_the_speed_the_best_loss_and_a_command_that_samples(run):
    result = run(*TINY)
    best = "runs/version_0/checkpoints/best.ckpt"
    assert re.search(r"^5 steps in \d+\.\d s, [\d,]+ tokens/s$", result.err, re.MULTILINE)
    assert re.search(rf"^best val loss \d\.\d{{4}} at step \d: {best}$", result.err, re.MULTILINE)
    (command,) = re.findall(r"^sample from it: chargpt (.*)$", result.err, re.MULTILINE)
    sampled = run(*command.split(), "--sample.num_samples", "1")
    assert sampled.code == 0
    assert len(sampled.out) == 502


def test_the_interval_between_evaluations_counts_accumulated_batches(run):
    assert run(*TINY, "--trainer.accumulate_grad_batches", "2", "--trainer.val_check_interval", "4").code == 0
    logged = [int(row["step"]) for row in rows(Path("runs/version_0")) if row["val/loss"]]
    assert logged == [0, 2, 4, 5]
