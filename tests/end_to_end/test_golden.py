"""Thirty updates through Lightning against nanoGPT's own figures (nanogpt_golden.json describes how they were made)."""

import json
from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch.utils.data import DataLoader

from chargpt_lightning import CharGPT

CASES = json.loads(Path(__file__).with_name("nanogpt_golden.json").read_text(encoding="utf-8"))["cases"]


class Recorder(Callback):
    """Keeps each update's loss and its gradient norm before clipping."""

    def __init__(self):
        self.losses, self.norms = [], []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        gradients = [parameter.grad for parameter in pl_module.parameters()]
        self.norms.append(torch.nn.utils.get_total_norm(gradients).item())

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.losses.append(outputs["loss"].item())


def build(case) -> CharGPT:
    settings = {name: value for name, value in case["model"].items() if name != "vocab_size"}
    settings |= {name: value for name, value in case["optimizer"].items() if name != "grad_clip"}
    module = CharGPT(alphabet="".join(map(chr, range(case["model"]["vocab_size"]))), **settings)
    parameters = dict(module.gpt.named_parameters())
    assert sorted(parameters) == case["parameter_names_sorted"]
    for k, name in enumerate(case["parameter_names_sorted"]):
        values = parameters[name].data
        if values.dim() == 1:
            values.fill_(0.0 if name.endswith("bias") else 1.0)
        else:
            wave = 0.05 * torch.sin(0.7 * torch.arange(values.numel(), dtype=torch.float64) + k)
            values.copy_(wave.view_as(values))
    return module


def tokens(case, step: int) -> tuple[torch.Tensor, torch.Tensor]:
    i = torch.arange(case["batch_size"] * (case["model"]["block_size"] + 1)).view(case["batch_size"], -1)
    windows = (i * i * 7 + i * 3 + 13 * step) % case["model"]["vocab_size"]
    return windows[:, :-1], windows[:, 1:]


@pytest.mark.parametrize("case", CASES, ids=["plain", "with biases"])
def test_logits_equal_nanogpts(case):
    logits = build(case).eval()(tokens(case, 0)[0])
    expected, tolerance = case["before_step_0"], case["tolerance"]["logits"]
    assert logits[0, 0, :8].tolist() == pytest.approx(expected["logits_first_position_first_8"], abs=tolerance)
    assert logits[-1, -1, :8].tolist() == pytest.approx(expected["logits_last_position_first_8"], abs=tolerance)
    assert logits.sum().item() == pytest.approx(expected["logits_sum"], abs=1e-3)
    assert logits.abs().sum().item() == pytest.approx(expected["logits_abs_sum"], abs=1e-2)


@pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`")
@pytest.mark.parametrize("case", CASES, ids=["plain", "with biases"])
def test_training_equals_nanogpts(case):
    recorder = Recorder()
    trainer = L.Trainer(
        accelerator="cpu", max_steps=case["steps"], gradient_clip_val=case["optimizer"]["grad_clip"],
        callbacks=[recorder], logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    batches = [tokens(case, step) for step in range(case["steps"])]
    trainer.fit(build(case), DataLoader(batches, batch_size=None))
    assert recorder.losses == pytest.approx(case["loss"], abs=case["tolerance"]["loss"])
    assert recorder.norms == pytest.approx(case["grad_norm_before_clip"], rel=4 * case["tolerance"]["loss"])
