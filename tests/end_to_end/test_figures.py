"""The figures of a run and of `validate` against float64: in every precision, for large counts, for each update."""

import copy
import math
import re
from pathlib import Path

import pytest
import torch
import yaml
from support.bare_trainer import fit, tiny
from support.command_line import TINY, rows
from support.nanogpt_folder import prepare
from support.precisions import PRODUCT_DTYPES
from torch.nn import functional as F

from chargpt_lightning import CharGPT
from chargpt_lightning.models.loss import MeanLoss

VALIDATE = ["validate", "--trainer.accelerator", "cpu"]


@pytest.fixture
def seen(monkeypatch):
    """The logits of each batch in float64, and its targets: those of training, val split and train split."""
    seen = {"train": [], "val": [], "train_eval": []}
    logits = []
    forward, training_step, validation_step = CharGPT.forward, CharGPT.training_step, CharGPT.validation_step

    def watched_forward(module, ids):
        logits.append(forward(module, ids))
        return logits[-1]

    def watched_training_step(module, batch, batch_idx):
        loss = training_step(module, batch, batch_idx)
        seen["train"].append((logits[-1].detach().double(), batch[1]))
        return loss

    def watched_validation_step(module, batch, batch_idx, dataloader_idx=0):
        validation_step(module, batch, batch_idx, dataloader_idx)
        seen[("val", "train_eval")[dataloader_idx]].append((logits[-1].double(), batch[1]))

    monkeypatch.setattr(CharGPT, "forward", watched_forward)
    monkeypatch.setattr(CharGPT, "training_step", watched_training_step)
    monkeypatch.setattr(CharGPT, "validation_step", watched_validation_step)
    return seen


@pytest.fixture
def clear_losses(monkeypatch):
    """Networks whose losses differ from batch to batch; those of new networks hardly do."""
    setup = CharGPT.setup

    def setup_and_spread(module, stage):
        setup(module, stage)
        for weights in module.parameters():
            torch.nn.init.normal_(weights, std=0.7)

    monkeypatch.setattr(CharGPT, "setup", setup_and_spread)


@pytest.fixture
def norms(monkeypatch):
    """The norm of all gradients of each update, before they are clipped."""
    norms = []
    clip = CharGPT.configure_gradient_clipping

    def watched(module, *args, **kwargs):
        gradients = [weights.grad.double().flatten() for weights in module.parameters()]
        norms.append(torch.cat(gradients).norm().item())
        clip(module, *args, **kwargs)

    monkeypatch.setattr(CharGPT, "configure_gradient_clipping", watched)
    return norms


def loss_of(batches) -> float:
    """The mean loss over all characters of batches."""
    logits = torch.cat([logits.flatten(0, 1) for logits, _ in batches])
    return F.cross_entropy(logits, torch.cat([targets.flatten() for _, targets in batches])).item()


@pytest.mark.parametrize("precision", PRODUCT_DTYPES)
def test_every_figure_of_a_run_is_exact_in_every_precision(run, seen, norms, clear_losses, precision):
    result = run(*TINY, "--data.eval_iters", "8", "--trainer.max_steps", "1", "--trainer.precision", precision)
    assert result.code == 0
    start, update, end = rows(Path("runs/version_0"))
    printed = re.findall(r"train loss (\d+\.\d{4}), val loss (\d+\.\d{4})$", result.err, re.MULTILINE)
    for place, row, (train, val) in zip((slice(0, 8), slice(8, 16)), (start, end), printed, strict=True):
        expected = {split: loss_of(seen[split][place]) for split in ("val", "train_eval")}
        assert float(row["val/loss"]) == pytest.approx(expected["val"], rel=1e-6)
        assert float(row["train_eval/loss"]) == pytest.approx(expected["train_eval"], rel=1e-6)
        assert float(row["val/perplexity"]) == pytest.approx(math.exp(expected["val"]), rel=1e-5)
        assert float(row["val/characters"]) == 8 * 2 * 8
        assert (float(train), float(val)) == pytest.approx((expected["train_eval"], expected["val"]), abs=6e-5)
    assert float(update["train/loss"]) == pytest.approx(loss_of(seen["train"]), rel=1e-6)
    assert [float(update["grad_norm"])] == pytest.approx(norms, rel=1e-6)
    (best,) = (
        state["best_model_score"].item()
        for name, state in torch.load("runs/version_0/checkpoints/last.ckpt")["callbacks"].items()
        if name.startswith("BestAndLast")
    )
    assert best == float(end["val/loss"])


@pytest.mark.parametrize("precision", PRODUCT_DTYPES)
def test_validate_is_exact_in_every_precision(run, seen, clear_losses, precision):
    assert run(*TINY, "--trainer.precision", precision).code == 0
    seen["val"].clear()
    figures = yaml.safe_load(run(*VALIDATE, "--trainer.precision", precision).out)
    expected = loss_of(seen["val"])
    assert figures["loss"] == pytest.approx(expected, abs=1e-6)
    assert figures["perplexity"] == pytest.approx(math.exp(expected), rel=1e-6)
    assert figures["bits_per_character"] == pytest.approx(expected / math.log(2), abs=1e-6)


def test_early_stopping_sees_differences_that_bf16_rounds_away(run, monkeypatch):
    """Losses that fall by a thousandth at each evaluation are the same number six times in a row in bf16."""
    losses = iter(3 - 0.001 * torch.arange(10, dtype=torch.float64))
    monkeypatch.setattr(MeanLoss, "compute", lambda self: (next(losses), torch.tensor(8)))
    settings = ["--trainer.precision", "bf16-true", "--trainer.val_check_interval", "1"]
    early = ["--trainer.callbacks", "EarlyStopping", "--trainer.callbacks.monitor", "val/loss"]
    assert run(*TINY, *settings, *early, "--trainer.callbacks.patience", "1", "--trainer.max_steps", "4").code == 0
    evaluated = [(row["step"], float(row["val/loss"])) for row in rows(Path("runs/version_0")) if row["val/loss"]]
    assert evaluated == [(str(step), pytest.approx(3 - 0.002 * step, rel=1e-12)) for step in range(5)]


def test_the_number_of_characters_is_exact_beyond_float32(run, monkeypatch):
    side = 4097  # its square is odd and above 2**24, where float32 has even numbers only
    text = ("ab" * (side * side))[: side * side + 1]
    prepare("folder", "ab" * side + text, border=2 * side)
    settings = ["--data.text", "folder", "--model.block_size", str(side), "--data.eval_iters", "1"]
    assert run(*TINY, *settings, "--trainer.max_steps", "1").code == 0
    monkeypatch.setattr(CharGPT, "forward", lambda module, ids: torch.zeros(*ids.shape, 2))
    figures = yaml.safe_load(run(*VALIDATE, "--data.batch_size", "64").out)
    assert figures == {
        "loss": pytest.approx(math.log(2), abs=1e-6),
        "bits_per_character": pytest.approx(1, abs=1e-6),
        "perplexity": pytest.approx(2, abs=1e-6),
        "characters": side * side,
    }


def test_the_step_of_an_evaluation_is_exact_beyond_float32(run, monkeypatch):
    start = 2**24 + 1
    monkeypatch.setattr(CharGPT, "global_step", property(lambda module: start + module.trainer.global_step))
    assert run(*TINY).code == 0
    steps = [int(row["step"]) for row in rows(Path("runs/version_0")) if row["val/loss"]]
    assert steps == [0, start + 2, start + 4, start + 5]


@pytest.fixture
def updates(monkeypatch):
    """For each update its micro-batches, and the network as it was before it, in float64."""
    updates = []
    step = CharGPT.training_step

    def training_step(module, batch, batch_idx):
        if module.global_step == len(updates):
            updates.append((copy.deepcopy(module.gpt).double(), []))
        updates[-1][1].append(batch)
        return step(module, batch, batch_idx)

    monkeypatch.setattr(CharGPT, "training_step", training_step)
    return updates


def test_the_loss_of_an_accumulated_update_is_the_mean_over_its_micro_batches(run, monkeypatch, updates):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setattr("tqdm.std.tqdm.monitor_interval", 0)  # its thread would outlive the test
    accumulated = ["--trainer.accumulate_grad_batches", "3", "--trainer.val_check_interval", "3"]
    result = run(*TINY, *accumulated, "--trainer.max_steps", "3", "--model.learning_rate", "0.1")
    assert result.code == 0
    expected = []
    for gpt, micro_batches in updates:
        ids, targets = (torch.cat(part) for part in zip(*micro_batches, strict=True))
        expected.append(F.cross_entropy(gpt(ids).flatten(0, 1), targets.flatten()).item())
    logged = [float(row["train/loss"]) for row in rows(Path("runs/version_0")) if row["train/loss"]]
    assert logged == pytest.approx(expected, rel=1e-6)
    assert len(logged) == 3
    shown = re.findall(r"3/3 .*loss (\d\.\d{3})", result.err.split("\r")[-1])
    assert shown == [f"{logged[-1]:.3f}"]


def test_an_interrupted_update_does_not_count_in_the_next_runs_loss(monkeypatch, updates):
    module = tiny()
    step = CharGPT.training_step

    def breaks_off(module, batch, batch_idx):
        loss = step(module, batch, batch_idx)
        if batch_idx == 1:
            raise RuntimeError("power cut")
        return loss

    with monkeypatch.context() as context:
        context.setattr(CharGPT, "training_step", breaks_off)
        with pytest.raises(RuntimeError, match="power cut"):
            fit(module, accumulate_grad_batches=3)
    updates.clear()
    fit(module, accumulate_grad_batches=3, max_steps=1)
    gpt, micro_batches = updates[-1]
    ids, targets = (torch.cat(part) for part in zip(*micro_batches, strict=True))
    expected = F.cross_entropy(gpt(ids).flatten(0, 1), targets.flatten()).item()
    assert module.train_loss == pytest.approx(expected, rel=1e-6)
