"""Checkpoints: written whole, read without running any code in them, the best and the last of a run kept."""

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from chargpt_lightning.errors import ConfigError
from chargpt_lightning.files import write_whole


@dataclass(frozen=True)
class CheckpointFacts:
    """What a checkpoint of this program says of itself.

    Args:
        hparams: The arguments of the CharGPT that it holds, by name.
        text: Name or path of the text it was trained on.
        sha256: Of that text.
        global_step: Updates made.
        run: Name of its run's directory; "" if it was saved outside `fit`.
        resumable: Whether it holds the optimizer's state, and not only weights.
    """

    hparams: dict[str, Any]
    text: str
    sha256: str
    global_step: int
    run: str
    resumable: bool


def read_checkpoint(path: Path) -> CheckpointFacts:
    """Reads a checkpoint without running any code in it.

    Raises:
        ConfigError: If the file is missing, broken, or not a checkpoint of this program.
    """
    if not path.is_file():
        raise ConfigError(f"ckpt_path ({path}) must be a checkpoint file, but there is none")
    try:
        whole = _is_whole(path)
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True) if whole else None
    except Exception:  # what a damaged file raises depends on where it is damaged
        checkpoint = None
    if checkpoint is None:
        raise ConfigError(f"ckpt_path ({path}) must be a checkpoint file that is whole and holds no code")
    if (facts := _facts_of(checkpoint)) is None:
        raise ConfigError(f"ckpt_path ({path}) must be a checkpoint of chargpt_lightning")
    return facts


_BEFORE_THERE_WERE_TWO = {"architecture": "gpt2", "optimizer": "adamw"}  # what older checkpoints do not say


def _facts_of(checkpoint: Any) -> CheckpointFacts | None:
    match checkpoint:
        case {
            "hyper_parameters": {
                "alphabet": str(),
                "block_size": int(),
                "n_layer": int(),
                "n_head": int(),
                "n_embd": int(),
                "bias": bool(),
            } as hparams,
            "CharDataModule": {"text": str() as text, "sha256": str() as sha256},
            "global_step": int() as global_step,
            "state_dict": dict(),
        } if all(isinstance(value, str | int | float) for value in hparams.values()):
            history = checkpoint.get("history")
            run = str(history.get("run", "")) if isinstance(history, dict) else ""
            resumable = {"loops", "optimizer_states", "lr_schedulers"} <= checkpoint.keys()
            return CheckpointFacts(_BEFORE_THERE_WERE_TWO | hparams, text, sha256, global_step, run, resumable)
    return None


def _is_whole(path: Path) -> bool:
    """Whether no bit of the archive has changed: torch.load looks neither at checksums nor at what is a directory."""
    with zipfile.ZipFile(path) as archive:
        return archive.testzip() is None and not any(member.external_attr for member in archive.infolist())


class WholeFileIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and moves it there: Lightning's own way crosses file systems, in pieces."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Saves to `path`, or raises OSError and leaves there what was."""
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, buffer.getbuffer())


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


def last_checkpoint(trainer: L.Trainer) -> Path | None:
    """Where the run as it stood last lies, if it has been saved."""
    return next((keeper.last_path for keeper in _keepers(trainer) if keeper.last_path.exists()), None)


def _keepers(trainer: L.Trainer) -> list[BestAndLast]:
    return [callback for callback in trainer.checkpoint_callbacks if isinstance(callback, BestAndLast)]
