"""The modern network and Muon through the command line."""

from pathlib import Path

import pytest
from support.command_line import FAST, N_GRAMS, TINY, rows

LEARNING = ["--trainer.max_steps", "60", "--trainer.val_check_interval", "30", "--model.learning_rate", "0.02"]


def test_it_learns_and_samples_without_its_text(run, monkeypatch, tmp_path):
    assert run(*TINY, *FAST, *N_GRAMS, *LEARNING).code == 0
    losses = [float(row["val/loss"]) for row in rows(Path("runs/version_0")) if row["val/loss"]]
    assert losses[-1] < losses[0] - 1
    best = str(Path("runs/version_0/checkpoints/best.ckpt").absolute())
    validated = run("validate", "--ckpt_path", best, "--trainer.accelerator", "cpu")
    assert float(validated.out.splitlines()[0].removeprefix("loss: ")) == pytest.approx(min(losses), abs=0.3)
    Path("verse.txt").unlink()
    monkeypatch.chdir(tmp_path)
    sampled = run("predict", "--ckpt_path", best, "--trainer.accelerator", "cpu", "--sample.max_new_tokens", "40")
    assert sampled.code == 0, sampled.err
    assert len(sampled.out) > 10 * 40


@pytest.mark.parametrize("mix", [FAST[:2], FAST[2:]], ids=["modern network, AdamW", "GPT-2's network, Muon"])
def test_network_and_optimizer_work_without_each_other(run, mix):
    assert run(*TINY, *mix).code == 0


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "64-true"])
def test_every_precision_trains(run, precision):
    assert run(*TINY, *FAST, "--trainer.precision", precision).code == 0
    first, *_, last = (float(row["val/loss"]) for row in rows(Path("runs/version_0")) if row["val/loss"])
    assert last < first
