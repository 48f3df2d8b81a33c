"""On an accelerator, an update that is not logged reads nothing back, because that would wait for the device.

The device here is torch's "meta", whose tensors have no values: reading or copying one raises an error.
"""

from contextlib import nullcontext

import lightning as L
import pytest
import torch
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.strategies import SingleDeviceStrategy
from support.bare_trainer import FAST, N_GRAMS, tiny

from chargpt_lightning import CharDataModule
from chargpt_lightning.optim.config import OptimizerConfig


class Meta(SingleDeviceStrategy):
    def __init__(self) -> None:
        super().__init__(torch.device("meta"), CPUAccelerator())

    def setup_environment(self) -> None:
        """Leaves out what a CPU would refuse."""

    def teardown(self) -> None:
        """Leaves the network there: it has no values to bring back."""


@pytest.fixture
def train(monkeypatch):
    """Trains for four updates, without the fused AdamW and autocast, which "meta" does not have."""
    build = OptimizerConfig.build
    monkeypatch.setattr(OptimizerConfig, "build", lambda *args: build(*args[:2], False, *args[3:]))
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: nullcontext())

    def train(log_every_n_steps: int, **settings) -> int:
        off = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
        trainer = L.Trainer(
            strategy=Meta(),
            max_steps=4,
            limit_val_batches=0,
            log_every_n_steps=log_every_n_steps,
            accumulate_grad_batches=2,
            gradient_clip_val=1.0,
            **dict.fromkeys(off, False),
        )
        trainer.fit(tiny(**settings), datamodule=CharDataModule("verse.txt", batch_size=2, block_size=8))
        return trainer.global_step

    return train


@pytest.mark.parametrize("settings", [{}, FAST | N_GRAMS, {"dropout": 0.5}], ids=["gpt2", "fast", "dropout"])
def test_an_update_that_is_not_logged_reads_nothing_back(train, settings):
    assert train(log_every_n_steps=0, **settings) == 4


def test_a_logged_update_is_read(train):
    with pytest.raises(NotImplementedError, match="Cannot copy out of meta tensor"):
        train(log_every_n_steps=1)
