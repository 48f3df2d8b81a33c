"""The progress line of a run."""

import sys
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ProgressBar
from torch import Tensor
from tqdm import tqdm


class StepBar(ProgressBar):
    """One line on stderr that counts updates."""

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self._bar: tqdm[Any] | None = None

    def disable(self) -> None:
        """Lightning calls this on all devices but the first."""
        self._enabled = False

    def enable(self) -> None:
        """The opposite."""
        self._enabled = True

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Opens the line where the run stands; a stderr that is no terminal gets none."""
        self._bar = tqdm(
            desc="step",
            unit="step",
            total=trainer.max_steps if trainer.max_steps > 0 else None,
            initial=trainer.global_step,
            disable=None if self._enabled else True,
            dynamic_ncols=True,
            file=sys.stderr,
        )

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: tuple[Tensor, Tensor],
        batch_idx: int,
    ) -> None:
        """Moves on; loss, learning rate and speed are read only when the line is drawn, and at the end."""
        if self._bar is None or trainer.global_step == self._bar.n:
            return
        drawn = self._bar.update(trainer.global_step - self._bar.n)
        if drawn or trainer.global_step == trainer.max_steps:
            rate = self._bar.format_dict["rate"] or 0.0  # updates per second
            tokens = batch[0].numel() * trainer.world_size * trainer.accumulate_grad_batches
            lr = trainer.optimizers[0].param_groups[0]["lr"]
            self._bar.set_postfix_str(f"loss {pl_module.train_loss:.3f}, lr {lr:.1e}, {rate * tokens:,.0f} tokens/s")

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leaves the line as it is."""
        self._close()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Leaves the line as it is, for the error to stand below it."""
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
