"""CharGPT under a Trainer: schedule, clipping, evaluation, compilation."""

import math
from functools import partial
from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging
from lightning.pytorch.plugins import MixedPrecision
from support.bare_trainer import FAST, fit, tiny
from support.command_line import TINY, refused, rows
from support.platforms import compiles
from support.precisions import PRODUCT_DTYPES
from torch.nn import functional as F

from chargpt_lightning import CharDataModule
from chargpt_lightning.optim.lr_schedule import learning_rate_at
from chargpt_lightning.utils.errors import ConfigError


class Watch(Callback):
    """Keeps learning rates, and gradient norms after clipping."""

    def __init__(self, group=0):
        self.group = group
        self.rates, self.norms = [], []

    def on_before_zero_grad(self, trainer, pl_module, optimizer):
        gradients = [parameter.grad for parameter in pl_module.parameters() if parameter.grad is not None]
        if gradients:
            self.norms.append(torch.nn.utils.get_total_norm(gradients).item())

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.rates.append(trainer.optimizers[0].param_groups[self.group]["lr"])


def test_the_schedule_moves_both_learning_rates_alike():
    schedule = {"learning_rate": 0.1, "min_lr": 0.05, "warmup_iters": 1, "constant_iters": 1, "lr_decay_iters": 4}
    watch = Watch(group=2)
    fit(tiny(**FAST, **schedule, lr_decay="linear", muon_learning_rate=0.2), max_steps=5, callbacks=[watch])
    assert watch.rates == pytest.approx([0.1, 0.2, 0.2, 0.15, 0.1], rel=1e-12)


@pytest.mark.parametrize(
    ("precision", "dtype"),
    (PRODUCT_DTYPES | {"16-true": torch.float32}).items(),  # float16 cannot represent small gradients
)
def test_muon_computes_in_the_precision_of_the_run(precision, dtype):
    (optimizer,) = fit(tiny(**FAST), precision=precision, max_steps=1).optimizers
    assert optimizer.dtype == dtype
    assert optimizer.defaults["fused"]


@pytest.mark.filterwarnings("ignore:.*GradScaler")
def test_scaled_gradients_are_unscaled_before_they_are_clipped():
    """A fused optimizer would unscale them itself, after the clipping."""
    scaled = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu"))
    watch = Watch()
    (optimizer,) = fit(tiny(), plugins=[scaled], callbacks=[watch], gradient_clip_val=0.01).optimizers
    assert not optimizer.defaults["fused"]
    assert watch.norms == pytest.approx([0.01] * len(watch.norms), rel=1e-3)


def test_every_update_has_the_schedules_learning_rate():
    schedule = {"learning_rate": 0.1, "min_lr": 0.01, "warmup_iters": 2, "lr_decay_iters": 4}
    watch = Watch()
    fit(tiny(**schedule), max_steps=6, callbacks=[watch])
    assert watch.rates == pytest.approx([learning_rate_at(step, **schedule) for step in range(6)], rel=1e-12)


def test_without_decay_the_learning_rate_is_constant():
    watch = Watch()
    fit(tiny(decay_lr=False, learning_rate=0.01), callbacks=[watch])
    assert watch.rates == [0.01] * 4


@pytest.mark.parametrize("network", [{}, FAST], ids=["gpt2", "fast"])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_gradients_are_clipped_in_every_precision(precision, network):
    watch = Watch()
    fit(tiny(**network), callbacks=[watch], gradient_clip_val=0.01, precision=precision)
    assert watch.norms == pytest.approx([0.01] * len(watch.norms), rel=1e-3)
    assert len(watch.norms) >= 3


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_gradients_are_clipped_by_value_in_every_precision(precision):
    watch = Watch()
    module = tiny()
    fit(module, callbacks=[watch], gradient_clip_val=1e-4, gradient_clip_algorithm="value", precision=precision)
    bound = 1e-4 * math.sqrt(sum(parameter.numel() for parameter in module.parameters()))
    assert 0 < max(watch.norms) <= bound * (1 + 1e-6)


def test_validate_logs_the_mean_over_the_whole_split():
    module = tiny()
    data = CharDataModule("verse.txt", batch_size=3, block_size=8)
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    (figures,) = trainer.validate(module, datamodule=data, verbose=False)
    val = data.vocab.encode(Path("verse.txt").read_text(encoding="utf-8"))[data.splits[1].start :]
    windows = (len(val) - 1) // 8
    ids, targets = val[: windows * 8].view(-1, 8), val[1 : windows * 8 + 1].view(-1, 8)
    with torch.no_grad():
        expected = F.cross_entropy(module.eval()(ids).flatten(0, 1), targets.flatten()).item()
    assert figures["val/loss"] == pytest.approx(expected, abs=1e-5)
    assert figures["val/perplexity"] == pytest.approx(math.exp(expected), rel=1e-5)
    assert figures["val/characters"] == windows * 8


@compiles
@pytest.mark.parametrize("network", [{}, FAST], ids=["gpt2", "fast"])
@pytest.mark.parametrize(("precision", "tolerance"), [("32-true", 1e-5), ("bf16-mixed", 2e-3)])
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compilation_changes_neither_names_nor_figures(monkeypatch, backend, precision, tolerance, network):
    """With torch's default backend, which compiles C++ for ten seconds, or with one that only traces the network."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    plain, compiled = tiny(**network), tiny(**network, compile=True)
    names = list(plain.state_dict())
    evaluated = {"max_steps": 2, "val_check_interval": 2, "check_val_every_n_epoch": None, "precision": precision}
    losses = [fit(module, **evaluated).callback_metrics["val/loss"].item() for module in (plain, compiled)]
    assert list(compiled.state_dict()) == names
    assert losses[1] == pytest.approx(losses[0], abs=tolerance)
    assert "compile" not in compiled.hparams


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"architecture": "gpt3"}, "architecture (gpt3) must be one of gpt2, modern"),
        ({"learning_rate": 0.0}, "learning_rate (0.0) must be above 0 and finite"),
        ({"n_head": 3}, "n_embd (8) must be divisible by n_head (3)"),
    ],
)
def test_settings_of_network_and_optimizer_are_checked(setting, message):
    with pytest.raises(ConfigError) as error:
        tiny(**setting)
    assert str(error.value) == message


@pytest.mark.filterwarnings("ignore:You're using the WeightAveraging callback with a model that overrides")
def test_a_module_can_be_trained_twice_with_averaged_weights():
    module, evaluated = tiny(), {"check_val_every_n_epoch": None, "val_check_interval": 2}
    for _ in range(2):
        losses = fit(module, callbacks=[EMAWeightAveraging(decay=0.5)], **evaluated).callback_metrics
        assert math.isfinite(losses["val/loss"])


def test_weights_that_do_not_fit_the_checkpoints_own_settings_are_refused(run, tiny_run):
    path = tiny_run / "checkpoints/last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["hyper_parameters"]["n_layer"] = 2
    torch.save(checkpoint, path)
    message = refused(run, "predict", "--ckpt_path", "last")
    name = "gpt.transformer.h.1.attn.c_attn.weight"
    assert message == (
        f"ckpt_path ({path}) must contain the weights of its own network, but: {name} (absent) must be as in this "
        "network (24 x 8)"
    )


def test_every_update_is_logged_with_loss_and_learning_rate(tiny_run):
    updates = [row for row in rows(tiny_run) if row["train/loss"]]
    assert [int(row["step"]) for row in updates] == [0, 1, 2, 3, 4]
    assert [float(row["lr"]) for row in updates[:3]] == pytest.approx([1e-3 / 3, 2e-3 / 3, 1e-3])


@pytest.mark.parametrize(("interval", "logged"), [("2", ["0", "2", "4"]), ("0", [])])
def test_updates_are_logged_at_the_interval(run, interval, logged):
    assert run(*TINY, "--trainer.log_every_n_steps", interval).code == 0
    assert [row["step"] for row in rows(Path("runs/version_0")) if row.get("train/loss")] == logged
