"""Where runs lie on disk, and what their checkpoints say of themselves."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from chargpt_lightning.errors import ConfigError


@dataclass(frozen=True)
class CheckpointFacts:
    """What a checkpoint of this program says of its vocabulary and its text.

    Args:
        alphabet: The characters, in the order of their ids.
        text: Name or path of the text it was trained on.
    """

    alphabet: str
    text: str


def require_writable(root: Path) -> None:
    """Tries to write where the directory is or will be, and leaves nothing behind.

    Raises:
        ConfigError: If that fails.
    """
    existing = next(path for path in (root.absolute(), *root.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise ConfigError(
            f"trainer.default_root_dir ({root}) must be a directory that can be written, but: {error.strerror}"
        ) from error


def newest_checkpoint(root: Path, name: str) -> Path:
    """The checkpoint of the run below `root` that was started last and has one.

    Args:
        root: Where runs lie, at any depth.
        name: "best" or "last"; a run that was never evaluated has the last one only.

    Raises:
        ConfigError: If there is no such run.
    """
    configs = [path for path in root.glob("**/config.yaml") if (path.parent / "checkpoints" / "last.ckpt").exists()]
    if not configs:
        raise ConfigError(f"trainer.default_root_dir ({root}) must hold a run with a checkpoint: `fit` makes one")
    checkpoints = max(configs, key=lambda path: path.stat().st_mtime).parent / "checkpoints"
    named = checkpoints / f"{name}.ckpt"
    return named if named.exists() else checkpoints / "last.ckpt"


def read_checkpoint(path: Path) -> CheckpointFacts:
    """Reads a checkpoint without running any code in it.

    Raises:
        ConfigError: If the file is missing, broken, or not a checkpoint of this program.
    """
    if not path.is_file():
        raise ConfigError(f"ckpt_path ({path}) must be a checkpoint file, but there is none")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # what a damaged file raises in torch.load depends on where it is damaged
        raise ConfigError(f"ckpt_path ({path}) must be a checkpoint file that is whole and holds no code") from error
    try:
        return CheckpointFacts(checkpoint["hyper_parameters"]["alphabet"], checkpoint["CharDataModule"]["text"])
    except (KeyError, TypeError, IndexError) as error:
        raise ConfigError(f"ckpt_path ({path}) must be a checkpoint of chargpt_lightning") from error
