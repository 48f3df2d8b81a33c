"""Speed of a run: tokens per second, and MFU (model FLOPs utilization)."""

import math
import time
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from chargpt_lightning.module import CharGPT
from chargpt_lightning.utils.hardware import matmul_dtype
from chargpt_lightning.utils.metrics import MFU, TOKENS_PER_SECOND

MATMUL_SIZES = (256, 512, 1024, 2048, 4096, 8192)  # rows and columns
MIN_MATMUL_S = 0.005  # for the duration of a product to be accurate


class Throughput(Callback):
    """Logs at each evaluation how fast the updates since the last one were, without the evaluations themselves.

    `tokens_per_second` counts all devices together. `mfu` is the ratio of a device's FLOP/s to its matmul FLOP/s in the
    run's precision. These are measured when training starts; the paper that defines MFU (Chowdhery et al. 2022, "PaLM",
    appendix B) uses the data sheet's.
    """

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Counts FLOPs per token, before a precision such as Transformer Engine replaces the network's layers."""
        assert isinstance(pl_module, CharGPT)
        flop_per_token = getattr(pl_module.gpt, "flop_per_token", None)
        weights = sum(parameter.numel() for parameter in pl_module.gpt.parameters())
        self._flop_per_token = flop_per_token() if flop_per_token else 6 * weights  # for a subclass's own network

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Measures the device, and starts timing."""
        dtype = matmul_dtype(trainer.precision_plugin.forward_context(), next(pl_module.parameters()))
        self._flop_per_s = matmul_flop_per_s(trainer.strategy.root_device, dtype)
        self._restart()

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: tuple[Tensor, Tensor],
        batch_idx: int,
    ) -> None:
        """Counts characters."""
        self._tokens += tokens_in(batch, trainer)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stops timing."""
        if not trainer.sanity_checking:
            self._per_s = self._tokens / (time.perf_counter() - self._start_s)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Logs the speed with the metrics of the evaluation."""
        if not trainer.sanity_checking:
            flop_per_s = self._per_s / trainer.world_size * self._flop_per_token  # of this device
            pl_module.log(TOKENS_PER_SECOND, self._per_s, sync_dist=True)
            pl_module.log(MFU, flop_per_s / self._flop_per_s, sync_dist=True)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Restarts timing."""
        self._restart()

    def _restart(self) -> None:
        self._tokens = 0
        self._start_s = time.perf_counter()


def tokens_in(batch: tuple[Tensor, Tensor], trainer: L.Trainer) -> int:
    """Returns how many characters all devices together train on in a batch."""
    return batch[0].numel() * trainer.world_size


def matmul_flop_per_s(device: torch.device, dtype: torch.dtype) -> float:
    """Measures the FLOP/s of square matrix products: the best of growing sizes, until one takes MIN_MATMUL_S."""
    best = math.nan
    for size in MATMUL_SIZES:
        try:
            factor = torch.ones(size, size, device=device, dtype=dtype)
            elapsed_s = min(_matmul_s(factor) for _ in range(3))
        except RuntimeError:  # out of memory
            break
        best = max(2 * size**3 / elapsed_s, best)  # not nan, which is never larger
        if elapsed_s > MIN_MATMUL_S:
            break
    return best


def _matmul_s(factor: Tensor) -> float:
    start_s = time.perf_counter()
    (factor @ factor)[0, 0].item()  # waits for an accelerator
    return time.perf_counter() - start_s
