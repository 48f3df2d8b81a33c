"""Which checkpoints of a run are kept: the best and the last."""

from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint


class BestAndLast(ModelCheckpoint):
    """Keeps `best.ckpt`, of the lowest val/loss, and `last.ckpt`, of the last evaluation or the end of training."""

    def __init__(self) -> None:
        super().__init__(
            monitor="val/loss", filename="best", enable_version_counter=False, save_on_train_epoch_end=False
        )

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """After an evaluation in training."""
        super().on_validation_end(trainer, pl_module)
        if not trainer.sanity_checking:
            self.save_now(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """At the end of training, where no evaluation was."""
        if not trainer.enable_validation:
            self.save_now(trainer)

    def save_now(self, trainer: L.Trainer) -> None:
        """Saves the run as it stands, unless it is a dry run."""
        if not trainer.fast_dev_run:  # type: ignore[attr-defined]
            trainer.save_checkpoint(self.last_path, weights_only=False)

    @property
    def last_path(self) -> Path:
        """Where the run as it stood last lies."""
        return Path(str(self.dirpath), "last.ckpt")

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over the best of the run that goes on, wherever its directory lies now."""
        best = Path(str(self.dirpath), "best.ckpt")
        if best.exists() and state_dict["best_model_path"]:
            paths = dict.fromkeys(("best_model_path", "kth_best_model_path"), str(best))
            scores = {"best_k_models": {str(best): state_dict["best_model_score"]}}
            super().load_state_dict(state_dict | paths | scores | {"dirpath": self.dirpath})


def save_now(trainer: L.Trainer) -> None:
    """Saves the run as it stands, if it keeps checkpoints."""
    for keeper in _keepers(trainer):
        keeper.save_now(trainer)


def best_checkpoint(trainer: L.Trainer) -> Path | None:
    """Where the run at its best lies, if it has been saved."""
    return next((Path(keeper.best_model_path) for keeper in _keepers(trainer) if keeper.best_model_path), None)


def last_checkpoint(trainer: L.Trainer) -> Path | None:
    """Where the run as it stood last lies, if it has been saved."""
    return next((keeper.last_path for keeper in _keepers(trainer) if keeper.last_path.exists()), None)


def _keepers(trainer: L.Trainer) -> list[BestAndLast]:
    return [callback for callback in trainer.checkpoint_callbacks if isinstance(callback, BestAndLast)]
