"""Which checkpoints of a run are kept: the best and the last."""

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from chargpt_lightning.checkpoints.io import AtomicCheckpointIO, load_safely
from chargpt_lightning.loggers.csv_logger import History
from chargpt_lightning.utils.errors import ConfigError
from chargpt_lightning.utils.run_dir import CHECKPOINTS

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Best:
    """What a best.ckpt says of itself.

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
        branches_at: The checkpoint at which a run branches off from another; None for every other run.
        branches_from: The directory of that other run.

    Raises:
        ConfigError: When a run resumes, if its best.ckpt cannot be read: a worse network could replace it.
    """

    def __init__(self, branches_at: Path | None = None, branches_from: Path | None = None) -> None:
        super().__init__(
            monitor="val/loss", filename="best", enable_version_counter=False, save_on_train_epoch_end=False
        )
        self._branches_at = branches_at
        self._branches_from = branches_from

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Takes the loss to beat from the best.ckpt that there is, whatever checkpoint the run resumes from."""
        super().setup(trainer, pl_module, stage)
        loss = None
        if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            if self._branches_at is not None and self._branches_from is not None:
                self._begin_branch(trainer, self._branches_at, self._branches_from / CHECKPOINTS / "best.ckpt")
            loss = _loss_to_beat(self.best_path)
        loss = trainer.strategy.broadcast(loss)
        if loss is not None:
            self.best_model_path = self.kth_best_model_path = self.format_checkpoint_name({})
            self.best_model_score = self.kth_value = torch.tensor(loss, dtype=torch.float64)
            self.best_k_models = {self.best_model_path: self.kth_value}

    def _begin_branch(self, trainer: L.Trainer, start: Path, best: Path) -> None:
        """Writes a branch's first last.ckpt and best.ckpt, the old run's unless that is newer than the start."""
        checkpoint = load_safely(start)
        kept = _best_until(checkpoint["global_step"], best) or self._as_best(checkpoint)
        for content, path in ((kept, self.best_path), (checkpoint, self.last_path)):
            if content is not None:
                forget_files(trainer, content)
                AtomicCheckpointIO().save_checkpoint(content, path)

    def _as_best(self, checkpoint: dict[str, Any]) -> dict[str, Any] | None:
        """A checkpoint with its own loss as the best, if it was saved after an evaluation."""
        states = checkpoint.get("callbacks", {})
        if (loss := states.get("Report", {}).get("val_losses", {}).get(checkpoint["global_step"])) is None:
            return None
        state = self.state_dict() | {"best_model_score": torch.tensor(loss, dtype=torch.float64)}
        return checkpoint | {"callbacks": states | {self.state_key: state}}

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
    def best_path(self) -> Path:
        """Path of the run's best state."""
        return Path(self.format_checkpoint_name({}))

    @property
    def last_path(self) -> Path:
        """Path of the run's last state."""
        return Path(str(self.dirpath), "last.ckpt")

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Does nothing: what another checkpoint remembers of best.ckpt may be out of date."""


def read_best(path: Path) -> Best:
    """Reads step and val loss of a best.ckpt from the file itself.

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
    """The content of a best.ckpt, if it is of this step or an earlier one."""
    if not path.exists():
        return None
    try:
        checkpoint: dict[str, Any] = load_safely(path)
        return checkpoint if _best_of(checkpoint, path).step <= step else None
    except ConfigError as error:
        log.warning("%s; the branch begins without it", error)
        return None


def forget_files(trainer: L.Trainer, checkpoint: dict[str, Any], in_place: bool = False) -> None:
    """Makes the user's ModelCheckpoints start over, in place only if a checkpoint says that they keep files elsewhere.

    What it remembers of them would be deleted once they have better ones, be it another run's or any directory.
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
    """Saves the run as it stands, if it keeps checkpoints."""
    for keeper in _keepers(trainer):
        keeper.save_now(trainer)


def best_checkpoint(trainer: L.Trainer) -> Best | None:
    """Step, val loss and path of the run at its best, as the file has them, if it has been saved."""
    try:
        return next((read_best(keeper.best_path) for keeper in _keepers(trainer) if keeper.best_model_path), None)
    except ConfigError as error:
        log.warning("%s", error)
        return None


def last_checkpoint(trainer: L.Trainer) -> Path | None:
    """Where the run as it stood last lies, if it has been saved."""
    return next((keeper.last_path for keeper in _keepers(trainer) if keeper.last_path.exists()), None)


def _keepers(trainer: L.Trainer) -> list[BestAndLast]:
    return [callback for callback in trainer.checkpoint_callbacks if isinstance(callback, BestAndLast)]


class HistoryInCheckpoints(Callback):
    """Makes a checkpoint know the row that it was saved after."""

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Writes the rows so far, and counts them into the checkpoint."""
        if trainer.is_global_zero and isinstance(history := trainer.logger, History):
            history.save()
            run = Path(history.save_dir).name
            checkpoint["history"] = {"run": run, "rows": history.rows, "columns": history.columns}

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Continues from that row."""
        if not isinstance(history := trainer.logger, History):
            return
        forget_files(trainer, checkpoint, history.in_place)
        if trainer.is_global_zero:
            known = checkpoint.get("history", {})
            history.go_on_from(known.get("rows", 0), known.get("columns", []))
