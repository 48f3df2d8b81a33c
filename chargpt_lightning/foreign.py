"""The door for other programs' checkpoints: behind it all are ours."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from chargpt_lightning.checkpoints import load_safely
from chargpt_lightning.huggingface import read_folder
from chargpt_lightning.nanogpt_checkpoint import from_nanogpt, is_nanogpt


@contextmanager
def as_ours(path: Path, text: str = "auto") -> Iterator[Path]:
    """A checkpoint of ours with the network of any: the file itself, or one that is there until the context ends.

    Args:
        path: A file of ours or nanoGPT's, or a folder of Hugging Face's.
        text: The user's `data.text`, which may be the nanoGPT folder that has the alphabet.

    Raises:
        ConfigError: If it cannot be read, or is of a network that is not ours.
    """
    translated = _translated(path, text)
    if translated is None:
        yield path
        return
    with TemporaryDirectory() as directory:
        ours = Path(directory, "translated.ckpt")
        torch.save(translated, ours)
        yield ours


def _translated(path: Path, text: str) -> dict[str, Any] | None:
    if path.is_dir():
        return read_folder(path)
    checkpoint = load_safely(path)
    return from_nanogpt(checkpoint, path, text) if is_nanogpt(checkpoint) else None
