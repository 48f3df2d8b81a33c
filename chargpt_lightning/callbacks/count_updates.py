"""Corrects Lightning's batch counts when a run resumes, and stores the training settings in checkpoints."""

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from chargpt_lightning.checkpoints.training_settings import settings_of

COUNTS = ("ready", "started", "processed", "completed")


class CountUpdates(Callback):
    """Sets Lightning's counts of a resumed run from the number of updates; stores the training settings.

    Lightning schedules evaluations, accumulation and epochs by counts of batches. Those in a checkpoint are wrong after
    a change of accumulate_grad_batches or limit_train_batches, nanoGPT's checkpoints do not contain any, and Lightning
    resumes an epoch that has ended by training on one more batch, if there are no evaluations.
    """

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Adds the training settings, for nanoGPT and for a run that starts from the checkpoint outside this run."""
        checkpoint["training"] = settings_of(trainer)

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Sets the counts to the checkpoint's update, before Lightning restores them."""
        if updates := checkpoint["global_step"]:
            total, current = batches_of(updates, trainer)
            epochs = (total - current) // trainer.limit_train_batches if total != current else 0
            begun = epochs + 1 if current else epochs
            epoch = dict(zip(COUNTS, (begun, begun, epochs, epochs), strict=True))
            stepped = updates - 1 if is_evaluation_due(total, trainer) else updates  # Lightning counts it on resume
            checkpoint["loops"]["fit_loop"] |= {
                "epoch_progress": {"total": epoch, "current": epoch},
                "epoch_loop.batch_progress": {
                    "total": dict.fromkeys(COUNTS, total),
                    "current": dict.fromkeys(COUNTS, current),
                    "is_last_batch": False,
                },
                "epoch_loop.state_dict": {"_batches_that_stepped": stepped},
            }


def batches_of(updates: int, trainer: L.Trainer) -> tuple[int, int]:
    """Returns how many batches each device has trained on after this many updates, since the start and in the epoch."""
    batches, limit = updates * trainer.accumulate_grad_batches, trainer.limit_train_batches
    return batches, batches % limit if isinstance(limit, int) and limit > 0 else batches


def is_evaluation_due(batches: int, trainer: L.Trainer) -> bool:
    """Whether Lightning evaluates after this many batches, if its interval is a number of batches."""
    interval = trainer.val_check_interval
    return trainer.enable_validation and isinstance(interval, int) and batches % interval == 0
