"""Keeps two checkpoints of a run: best.ckpt and last.ckpt."""

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from chargpt_lightning.checkpoints.io import AtomicCheckpointIO, load_safely, val_losses_of
from chargpt_lightning.utils.errors import ConfigError
from chargpt_lightning.utils.metrics import VAL_LOSS
from chargpt_lightning.utils.run_dir import CHECKPOINTS

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Best:
    """The facts of a best.ckpt.

    Args:
        path: The file.
        step: Updates made.
        val_loss: At that step, in nats per character.
    """

    path: Path
    step: int
    val_loss: float


class BestAndLast(ModelCheckpoint):
    """Keeps `best.ckpt`, of the lowest val/loss, and `last.ckpt`, of the last evaluation or the end of training.

    Args:
        branches_at: The checkpoint of another run that this run branches off from; None if it does not branch.
        branches_from: The directory of that other run.

    Raises:
        ConfigError: When a run resumes, if its best.ckpt cannot be read, because a worse network could replace it.
    """

    def __init__(self, branches_at: Path | None = None, branches_from: Path | None = None) -> None:
        super().__init__(monitor=VAL_LOSS, filename="best", enable_version_counter=False, save_on_train_epoch_end=False)
        self._branches_at = branches_at
        self._branches_from = branches_from

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Reads the loss to beat from best.ckpt, whichever checkpoint the run resumes from."""
        super().setup(trainer, pl_module, stage)
        loss = None
        if trainer.is_global_zero and not _is_dry_run(trainer):
            if self._branches_at is not None and self._branches_from is not None:
                self._begin_branch(trainer, self._branches_at, self._branches_from / CHECKPOINTS / "best.ckpt")
            loss = _loss_to_beat(self.best_path)
        loss = trainer.strategy.broadcast(loss)
        if loss is not None:
            self.best_model_path = self.kth_best_model_path = self.format_checkpoint_name({})
            self.best_model_score = self.kth_value = torch.tensor(loss, dtype=torch.float64)
            self.best_k_models = {self.best_model_path: self.kth_value}

    def _begin_branch(self, trainer: L.Trainer, start: Path, best: Path) -> None:
        """Writes a branch's first last.ckpt and best.ckpt: the old run's best, unless it is later than the start."""
        checkpoint = load_safely(start)
        kept = _best_until(checkpoint["global_step"], best) or self._as_best(checkpoint)
        for content, path in ((kept, self.best_path), (checkpoint, self.last_path)):
            if content is not None:
                drop_user_checkpoint_state(trainer, content)
                AtomicCheckpointIO().save_checkpoint(content, path)

    def _as_best(self, checkpoint: dict[str, Any]) -> dict[str, Any] | None:
        """Returns a checkpoint with its own loss as the best, if it was saved after an evaluation."""
        if (loss := val_losses_of(checkpoint).get(checkpoint["global_step"])) is None:
            return None
        state = self.state_dict() | {"best_model_score": torch.tensor(loss, dtype=torch.float64)}
        return checkpoint | {"callbacks": checkpoint["callbacks"] | {self.state_key: state}}

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Saves last.ckpt after an evaluation in training."""
        super().on_validation_end(trainer, pl_module)
        if not trainer.sanity_checking:
            self.save_now(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Saves last.ckpt at the end of training if there are no evaluations."""
        if not trainer.enable_validation:
            self.save_now(trainer)

    def save_now(self, trainer: L.Trainer) -> None:
        """Saves last.ckpt, unless it is a dry run."""
        if not _is_dry_run(trainer):
            trainer.save_checkpoint(self.last_path, weights_only=False)

    @property
    def best_path(self) -> Path:
        """Path of best.ckpt."""
        return Path(self.format_checkpoint_name({}))

    @property
    def last_path(self) -> Path:
        """Path of last.ckpt."""
        return Path(str(self.dirpath), "last.ckpt")

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Does nothing: the score in another checkpoint may be out of date."""


def read_best(path: Path) -> Best:
    """Reads step and val loss of a best.ckpt from the file.

    Raises:
        ConfigError: If it cannot be read, or was not saved as a run's best.
    """
    return _best_of(load_safely(path), path)


def _best_of(checkpoint: Any, path: Path) -> Best:
    match checkpoint:
        case {"global_step": int() as step, "callbacks": dict() as states}:
            for name, state in states.items():
                score = state["best_model_score"] if str(name).startswith(BestAndLast.__name__) else None
                if score is not None and math.isfinite(score):
                    return Best(path, step, float(score))
    raise ConfigError(f"{path} must be a checkpoint that a run saved as its best, but does not contain its val loss")


def _loss_to_beat(path: Path) -> float | None:
    if not path.exists():
        return None
    try:
        return read_best(path).val_loss
    except ConfigError as error:
        raise ConfigError(f"{error}; the run would replace it: move it away to resume without it") from error


def _best_until(step: int, path: Path) -> dict[str, Any] | None:
    """Returns the content of a best.ckpt, if it is of this step or an earlier one."""
    if not path.exists():
        return None
    try:
        checkpoint: dict[str, Any] = load_safely(path)
        return checkpoint if _best_of(checkpoint, path).step <= step else None
    except ConfigError as error:
        log.warning("%s; the branch begins without it", error)
        return None


def drop_user_checkpoint_state(trainer: L.Trainer, checkpoint: dict[str, Any], in_place: bool = False) -> None:
    """Removes the state of the user's own ModelCheckpoints from a checkpoint, so that they start over.

    A restored ModelCheckpoint deletes the files listed in its state once it has better ones, even those of another run.

    Args:
        trainer: Trainer with these ModelCheckpoints.
        checkpoint: Content of the checkpoint to restore; changed in place.
        in_place: Whether the run resumes in its own directory; then only state that lists files outside the callback's
            own directory is removed.
    """
    states = checkpoint.get("callbacks", {})
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, ModelCheckpoint) and not isinstance(callback, BestAndLast):
            state = states.get(callback.state_key, {})
            if not in_place or not _keeps_within(Path(str(callback.dirpath)), state):
                states.pop(callback.state_key, None)


def _keeps_within(directory: Path, state: dict[str, Any]) -> bool:
    names = ("best_model_path", "kth_best_model_path", "last_model_path")
    paths = [*(str(state.get(name, "")) for name in names), *state.get("best_k_models", {})]
    return all(
        "://" not in path and Path(path).resolve().is_relative_to(directory.resolve()) for path in filter(None, paths)
    )


def save_now(trainer: L.Trainer) -> None:
    """Saves last.ckpt, if the run keeps checkpoints."""
    for keeper in _best_and_last(trainer):
        keeper.save_now(trainer)


def best_checkpoint(trainer: L.Trainer) -> Best | None:
    """Returns step, val loss and path of best.ckpt, read from the file, if there is one."""
    try:
        return next((read_best(keeper.best_path) for keeper in _best_and_last(trainer) if keeper.best_model_path), None)
    except ConfigError as error:
        log.warning("%s", error)
        return None


def last_checkpoint(trainer: L.Trainer) -> Path | None:
    """Returns the path of last.ckpt, if there is one."""
    return next((keeper.last_path for keeper in _best_and_last(trainer) if keeper.last_path.exists()), None)


def _is_dry_run(trainer: L.Trainer) -> bool:
    return bool(trainer.fast_dev_run)  # type: ignore[attr-defined]


def _best_and_last(trainer: L.Trainer) -> list[BestAndLast]:
    return [callback for callback in trainer.checkpoint_callbacks if isinstance(callback, BestAndLast)]
