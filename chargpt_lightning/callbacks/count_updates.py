"""Corrects Lightning's batch counts when a run resumes, and stores the training settings in checkpoints."""

import math
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from chargpt_lightning.checkpoints.training_settings import settings_of

NO_BATCHES = dict.fromkeys(("ready", "started", "processed", "completed"), 0)


class CountUpdates(Callback):
    """Sets Lightning's batch counts of a resumed run from the number of updates; stores the training settings.

    Lightning schedules evaluations and accumulation by batch counts. Those in a checkpoint are wrong after a change of
    accumulate_grad_batches, and nanoGPT's checkpoints do not contain any.
    """

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Adds the training settings, for nanoGPT and for a run that starts from the checkpoint outside this run."""
        checkpoint["training"] = settings_of(trainer)

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Sets the counts to the checkpoint's update, before Lightning restores them."""
        if updates := checkpoint["global_step"]:
            fit_loop = checkpoint["loops"]["fit_loop"]
            progress = fit_loop.setdefault("epoch_loop.batch_progress", {"total": NO_BATCHES, "current": NO_BATCHES})
            _set_batches(progress, updates, trainer)
            stepped = updates - 1 if _is_counted_later(progress["total"], trainer) else updates
            fit_loop["epoch_loop.state_dict"] = {"_batches_that_stepped": stepped}


def _set_batches(progress: dict[str, Any], updates: int, trainer: L.Trainer) -> None:
    """Sets Lightning's counts of batches to those of this many updates, unless they are right."""
    total, current = batches_of(updates, trainer)
    was = progress["total"]
    if was["ready"] != total:
        unfinished = was["ready"] - was["completed"]  # 1 if the checkpoint was saved before the batch had ended
        for part, batches in (("total", total), ("current", current)):
            progress[part] = dict.fromkeys(was, batches) | {"completed": batches - unfinished}
        progress["is_last_batch"] = False


def batches_of(updates: int, trainer: L.Trainer) -> tuple[int, int]:
    """Returns how many batches each device has trained on after this many updates, as `batches_after` does."""
    limit = trainer.limit_train_batches
    batches_per_epoch = limit if isinstance(limit, int) and limit > 0 else None
    return batches_after(updates, trainer.accumulate_grad_batches, batches_per_epoch)


def is_evaluation_due(batches: int, trainer: L.Trainer) -> bool:
    """Whether Lightning evaluates after this many batches, if its interval is a number of batches."""
    interval = trainer.val_check_interval
    return trainer.enable_validation and isinstance(interval, int) and batches % interval == 0


def _is_counted_later(total: dict[str, int], trainer: L.Trainer) -> bool:
    """Whether Lightning counts the last update on resume: its batch had not ended, or an evaluation is due."""
    return is_evaluation_due(total["ready"], trainer) or total["completed"] != total["ready"]


def batches_after(updates: int, accumulated: int, batches_per_epoch: int | None) -> tuple[int, int]:
    """Returns how many batches a device has trained on, since the start of training and of the epoch.

    Args:
        updates: Updates made.
        accumulated: Batches per update.
        batches_per_epoch: Batches per epoch, the last of which always ends an update; None if epochs never end.
    """
    if batches_per_epoch is None:
        return updates * accumulated, updates * accumulated
    epochs, rest = divmod(updates, math.ceil(batches_per_epoch / accumulated))
    return epochs * batches_per_epoch + rest * accumulated, rest * accumulated
