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
def as_ours(path: Path, text: str | list[str] = "auto") -> Iterator[tuple[Path, Any]]:
    """A file of ours with the network of any, and its content: the file itself, or one for as long as the context.

    Args:
        path: A file of ours or nanoGPT's, or a folder of Hugging Face's.
        text: The user's `data.text`, which may be the nanoGPT folder that has the alphabet.

    Raises:
        ConfigError: If it cannot be read, or is of a network that is not ours.
    """
    if path.is_dir():
        checkpoint = read_folder(path)
    else:
        checkpoint = load_safely(path)
        if not is_nanogpt(checkpoint):
            yield path, checkpoint
            return
        checkpoint = from_nanogpt(checkpoint, path, text)
    with TemporaryDirectory() as directory:
        ours = Path(directory, "translated.ckpt")
        torch.save(checkpoint, ours)
        yield ours, checkpoint
