"""How fast a run is: tokens per second, and the share of what the device could do."""

import time
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from chargpt_lightning.utils.hardware import product_dtype

CLOCKED = ("tokens_per_second", "mfu")  # which no two runs have the same
PRODUCT_SIZES = (256, 512, 1024, 2048, 4096, 8192)  # rows and columns
LONG_ENOUGH_S = 0.005  # for a product to tell the device's rate


class Speed(Callback):
    """Logs at each evaluation how fast the updates since the last one were; evaluations themselves are left out.

    `tokens_per_second` is that of all devices together. `mfu` is the share of the rate at which this very device
    multiplies matrices in the run's precision, measured when training starts (Chowdhery et al. 2022, "PaLM",
    appendix B, who take the rate from a data sheet).
    """

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Counts operations, before a precision such as Transformer Engine replaces the network's layers."""
        self._flop_per_token = pl_module.gpt.flop_per_token()  # type: ignore[operator, union-attr]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Measures the device, and starts the clock."""
        dtype = product_dtype(trainer.precision_plugin.forward_context(), next(pl_module.parameters()))
        self._flop_per_s = product_rate(trainer.strategy.root_device, dtype)
        self._restart()

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: tuple[Tensor, Tensor],
        batch_idx: int,
    ) -> None:
        """Counts this device's characters."""
        self._tokens += batch[0].numel()

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stops the clock."""
        if not trainer.sanity_checking:
            self._per_s = self._tokens / (time.perf_counter() - self._start_s)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Logs the figures beside those of the evaluation."""
        if not trainer.sanity_checking:
            share = self._per_s * self._flop_per_token / self._flop_per_s
            pl_module.log("tokens_per_second", self._per_s * trainer.world_size, sync_dist=True)
            pl_module.log("mfu", share, sync_dist=True)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Starts the clock anew."""
        self._restart()

    def _restart(self) -> None:
        self._tokens = 0
        self._start_s = time.perf_counter()


def product_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second in square matrix products, the best of growing ones until one takes long enough."""
    best = 0.0
    for size in PRODUCT_SIZES:
        factor = torch.ones(size, size, device=device, dtype=dtype)
        elapsed_s = min(_product_s(factor) for _ in range(3))
        best = max(best, 2 * size**3 / elapsed_s)
        if elapsed_s > LONG_ENOUGH_S:
            break
    return best


def _product_s(factor: Tensor) -> float:
    start_s = time.perf_counter()
    (factor @ factor)[0, 0].item()  # which waits for an accelerator
    return time.perf_counter() - start_s
