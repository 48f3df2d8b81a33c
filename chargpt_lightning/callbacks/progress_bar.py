"""The progress line of a run."""

import sys
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ProgressBar
from torch import Tensor
from tqdm import tqdm

from chargpt_lightning.callbacks.throughput import tokens_in
from chargpt_lightning.utils.signals import leave_closed_terminal


class StepBar(ProgressBar):
    """A line on stderr that counts updates and shows loss, learning rate and speed."""

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self._bar: tqdm[Any] | None = None

    def disable(self) -> None:
        """Turns the line off; Lightning calls this on all devices but the first."""
        self._enabled = False

    def enable(self) -> None:
        """Turns the line on."""
        self._enabled = True

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Starts the line at the current update, if stderr is a terminal."""
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
        """Advances the line; loss, learning rate and speed are read only when it is redrawn, and at the end."""
        if self._bar is None or trainer.global_step == self._bar.n:
            return
        leave_closed_terminal()
        drawn = self._bar.update(trainer.global_step - self._bar.n)
        if drawn or trainer.global_step == trainer.max_steps:
            rate = self._bar.format_dict["rate"] or 0.0  # updates per second
            tokens = tokens_in(batch, trainer) * trainer.accumulate_grad_batches  # per update
            lr = trainer.optimizers[0].param_groups[0]["lr"]
            self._bar.set_postfix_str(f"loss {pl_module.train_loss:.3f}, lr {lr:.1e}, {rate * tokens:,.0f} tokens/s")

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Closes the line."""
        self._close()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Closes the line, so that the error is printed below it."""
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            leave_closed_terminal()
            self._bar.close()
