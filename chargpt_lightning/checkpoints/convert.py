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


def read_as_ours(path: Path, text: str | list[str] = "auto") -> tuple[Any, bool]:
    """The content of a checkpoint in this package's format, and whether it had to be translated.

    Args:
        path: A file of this package or of nanoGPT, or a Hugging Face folder.
        text: The user's `data.text`, which may be the nanoGPT folder that has the alphabet.

    Raises:
        ConfigError: If it cannot be read, or is of a network that this package does not have.
    """
    if path.is_dir():
        return read_folder(path), True
    checkpoint = load_safely(path)
    if is_nanogpt(checkpoint):
        return from_nanogpt(checkpoint, path, text), True
    return checkpoint, False


def open_checkpoint(path: Path) -> IO[bytes]:
    """Opens a checkpoint of any program as a file in this package's format, without its optimizer's state.

    Raises:
        ConfigError: If it cannot be read, or is of a network that this package does not have.
    """
    checkpoint, _ = read_as_ours(path)
    return as_file(checkpoint, path)


def as_file(checkpoint: Any, path: Path) -> IO[bytes]:
    """The content of a checkpoint as an open file, without its optimizer's state.

    Args:
        checkpoint: The content, in this package's format.
        path: Where it came from, for the error message.

    Raises:
        ConfigError: If it is not the content of a checkpoint of this package.
    """
    facts_of(checkpoint, path)
    file = BytesIO()
    torch.save({name: part for name, part in checkpoint.items() if name != "optimizer_states"}, file)
    file.seek(0)
    return file


@contextmanager
def file_to_restore(checkpoint: dict[str, Any], trainer: L.Trainer) -> Iterator[Path]:
    """Writes a checkpoint to a temporary file, which is deleted as soon as the trainer has restored it.

    Args:
        checkpoint: The content, in this package's format.
        trainer: Is to restore it, in the context.
    """
    descriptor, name = mkstemp(suffix=".ckpt")
    os.close(descriptor)
    path = Path(name)
    try:
        torch.save(checkpoint, path)
        trainer.callbacks.insert(0, _Remove(path))  # type: ignore[attr-defined]
        yield path
    finally:
        path.unlink(missing_ok=True)


class _Remove(Callback):
    """Removes a restored checkpoint. Before these hooks Lightning waits until every device has restored its state."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """In `fit`."""
        self._path.unlink(missing_ok=True)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """In `validate`."""
        self._path.unlink(missing_ok=True)

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """In `predict`."""
        self._path.unlink(missing_ok=True)
