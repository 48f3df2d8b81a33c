"""Converts nanoGPT and Hugging Face checkpoints to this package's format."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from tempfile import mkstemp
from typing import IO, Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback

from chargpt_lightning.checkpoints.huggingface import read_folder
from chargpt_lightning.checkpoints.io import facts_of, load_safely
from chargpt_lightning.checkpoints.nanogpt import from_nanogpt, is_nanogpt
from chargpt_lightning.utils.run_dir import checkpoint_at


def read_any_checkpoint(path: Path, text: str | list[str] = "auto") -> tuple[Any, bool]:
    """Reads a checkpoint of this package, nanoGPT or Hugging Face, converted to this package's format.

    Args:
        path: A checkpoint file of this package or of nanoGPT, or a Hugging Face folder.
        text: The user's `data.text`. If it is a nanoGPT data folder, the alphabet is read from there.

    Returns:
        The content of the checkpoint, and whether it was converted.

    Raises:
        ConfigError: If the checkpoint cannot be read, or if this package does not support its network.
    """
    if path.is_dir():
        return read_folder(path), True
    checkpoint = load_safely(path)
    if is_nanogpt(checkpoint):
        return from_nanogpt(checkpoint, path, text), True
    return checkpoint, False


def open_checkpoint(path: Path, of_subclass: bool) -> IO[bytes]:
    """Opens a checkpoint of any program as a file in this package's format, without its optimizer's state.

    Args:
        path: A checkpoint, or a run's directory, which stands for its best one.
        of_subclass: Whether a subclass of CharGPT saved it, whose network, optimizer and scheduler may be others.

    Raises:
        ConfigError: If it cannot be read, or is of a network that this package does not have.
    """
    path = checkpoint_at(path, "best")
    checkpoint, _ = read_any_checkpoint(path)
    return as_file(checkpoint, path, of_subclass)


def as_file(checkpoint: Any, path: Path, of_subclass: bool = False) -> IO[bytes]:
    """Returns the content of a checkpoint as an open file, without its optimizer's state.

    Args:
        checkpoint: The content, in this package's format.
        path: Where it came from, for the error message.
        of_subclass: Whether a subclass of CharGPT saved it, whose network, optimizer and scheduler may be others.

    Raises:
        ConfigError: If it is not the content of a checkpoint of this package.
    """
    hparams = facts_of(checkpoint, path, of_subclass).hparams
    names = {"pytorch-lightning_version": L.__version__, "hparams_name": "kwargs", "hyper_parameters": hparams}
    file = BytesIO()
    torch.save({name: checkpoint[name] for name in ("state_dict", "global_step")} | names, file)
    file.seek(0)
    return file


@contextmanager
def file_to_restore(checkpoint: dict[str, Any], trainer: L.Trainer) -> Iterator[Path]:
    """Writes a checkpoint to a temporary file, and deletes it as soon as the trainer has restored it.

    Several machines read the first one's file, so it is in the directory of runs, which they share.

    Args:
        checkpoint: The content, in this package's format.
        trainer: The trainer that restores the file inside the context.

    Yields:
        The path of the temporary file.
    """
    shared = Path(trainer.default_root_dir) if trainer.num_nodes > 1 else None
    if shared is not None:
        shared.mkdir(parents=True, exist_ok=True)
    descriptor, name = mkstemp(suffix=".ckpt", dir=shared)
    os.close(descriptor)
    path = Path(name)
    try:
        torch.save(checkpoint, path)
        trainer.callbacks.insert(0, _DeleteRestored(path))  # type: ignore[attr-defined]
        yield path
    finally:
        path.unlink(missing_ok=True)


class _DeleteRestored(Callback):
    """Deletes a checkpoint file in the first hook that Lightning calls once all devices have restored their state."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Deletes the file in `fit`."""
        self._path.unlink(missing_ok=True)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Deletes the file in `validate`."""
        self._path.unlink(missing_ok=True)

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Deletes the file in `predict`."""
        self._path.unlink(missing_ok=True)
