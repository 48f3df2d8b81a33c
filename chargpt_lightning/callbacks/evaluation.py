"""Evaluates a run before the first update and after the last, and prints its evaluations."""

import logging
import shlex
import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from chargpt_lightning.callbacks.model_checkpoint import best_checkpoint
from chargpt_lightning.callbacks.throughput import tokens_in
from chargpt_lightning.utils.console import program_name
from chargpt_lightning.utils.metrics import TRAIN_EVAL_LOSS, VAL_LOSS
from chargpt_lightning.utils.run_dir import relative_to_cwd

log = logging.getLogger(__name__)


class EvaluateAtBothEnds(Callback):
    """Evaluates before the first update and after the last, whatever the interval."""

    def on_sanity_check_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Logs the figures of Lightning's sanity check, which is a complete evaluation here."""
        figures = {name: value.item() for name, value in trainer.callback_metrics.items() if name != "step"}
        for logger in trainer.loggers:
            logger.log_metrics(figures, step=0)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Requests a stop after the last update, upon which Lightning evaluates once more."""
        if trainer.global_step == trainer.max_steps:
            trainer.should_stop = True


class Report(Callback):
    """Prints each evaluation and, at the end, the speed of training (evaluations included) and the best checkpoint."""

    def __init__(self) -> None:
        self._val_losses: dict[int, float] = {}  # by step
        self._tokens = 0
        self._start_s = 0.0
        self._start_step = 0

    def state_dict(self) -> dict[str, Any]:
        """Returns the evaluations so far, from which a checkpoint's own val loss can be read."""
        return {"val_losses": self._val_losses}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the evaluations of the run before it was stopped."""
        self._val_losses = state_dict["val_losses"]

    def on_sanity_check_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Prints the evaluation before the first update."""
        _print_evaluation(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Prints and remembers an evaluation during training."""
        if not trainer.sanity_checking:
            _print_evaluation(trainer)
            self._val_losses[trainer.global_step] = trainer.callback_metrics[VAL_LOSS].item()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Starts timing."""
        self._start_s = time.perf_counter()
        self._start_step = trainer.global_step

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

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Prints the summary."""
        elapsed_s = time.perf_counter() - self._start_s
        steps = trainer.global_step - self._start_step
        log.info("%s steps in %.1f s, %s tokens/s", f"{steps:,}", elapsed_s, f"{self._tokens / elapsed_s:,.0f}")
        if trainer.is_global_zero and (best := best_checkpoint(trainer)):
            path = relative_to_cwd(best.path).as_posix()  # works in every shell
            log.info("best val loss %.4f at step %d: %s", best.val_loss, best.step, path)
            log.info("sample from it: %s predict --ckpt_path %s", program_name(), shlex.quote(path))


def _print_evaluation(trainer: L.Trainer) -> None:
    train, val = (trainer.callback_metrics[name] for name in (TRAIN_EVAL_LOSS, VAL_LOSS))
    log.info("step %d: train loss %.4f, val loss %.4f", trainer.global_step, train, val)
