"""Checkpoints: written whole, read without running any code in them."""

import io
import pickletools
import re
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor

from chargpt_lightning.checkpoints.training_settings import settings_in
from chargpt_lightning.utils.atomic import write_whole
from chargpt_lightning.utils.errors import ConfigError

INFLATES = re.compile(r"bytearray$|Tensor$|^_codecs ")  # classes and functions as pickles name them


@dataclass(frozen=True)
class CheckpointFacts:
    """What a checkpoint of this program says of itself.

    Args:
        hparams: The arguments of the CharGPT that it holds, by name.
        text: Name, paths or pattern of the text it was trained on; "auto" if it does not say.
        sha256: Of that text, or None.
        global_step: Updates made.
        run: Name of its run's directory; "" if it was saved outside `fit`.
        resumable: Whether it holds the optimizer's state, and not only weights.
        training: The run's settings in nanoGPT's words, as far as it says them.
        dropouts: The ratios of a Hugging Face folder by name; empty for other checkpoints, which have one ratio.
    """

    hparams: dict[str, Any]
    text: str | list[str]
    sha256: str | None
    global_step: int
    run: str
    resumable: bool
    training: dict[str, Any]
    dropouts: dict[str, float]


def load_safely(path: Path) -> Any:
    """The content of a file that torch.save wrote, without running any code in it.

    Raises:
        ConfigError: If the file is missing, broken, or holds code.
    """
    if not path.is_file():
        raise ConfigError(f"ckpt_path ({path}) must be a checkpoint file, but there is none")
    try:
        if _is_intact(path):
            mapped = sys.platform != "win32"  # where nobody could replace the file as long as its content is of use
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
            if all(
                tensor.numel() * tensor.itemsize <= tensor.untyped_storage().nbytes() for tensor in _tensors(content)
            ):
                return content
    except Exception:  # what a damaged file raises depends on where it is damaged
        pass
    raise ConfigError(f"ckpt_path ({path}) must be a checkpoint file that is whole and holds no code")


def read_checkpoint(path: Path) -> CheckpointFacts:
    """What a checkpoint of this program says of itself.

    Raises:
        ConfigError: If the file is missing, broken, holds code, or is not a checkpoint of this program.
    """
    return facts_of(load_safely(path), path)


_BEFORE_THERE_WERE_TWO = {"architecture": "gpt2", "optimizer": "adamw"}  # what older checkpoints do not say


def facts_of(checkpoint: Any, path: Path) -> CheckpointFacts:
    """What the content of a checkpoint of this program says of itself.

    Args:
        checkpoint: The content.
        path: Where it came from, for the error.

    Raises:
        ConfigError: If it is not that of a checkpoint of this program.
    """
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
            "global_step": int() as global_step,
            "state_dict": dict(),
        } if all(isinstance(value, str | int | float) for value in hparams.values()) and (
            hparams["n_layer"] <= len(checkpoint["state_dict"])  # or a few bytes would ask for a network of any size
        ):
            text, sha256 = _text_of(checkpoint)
            history = checkpoint.get("history")
            run = _name_of_run(history.get("run")) if isinstance(history, dict) else ""
            resumable = _has_optimizer_state(checkpoint)
            hparams = _BEFORE_THERE_WERE_TWO | hparams
            training = settings_in(checkpoint.get("training"))
            dropouts = _ratios(checkpoint.get("dropouts"))
            return CheckpointFacts(hparams, text, sha256, global_step, run, resumable, training, dropouts)
    raise ConfigError(f"ckpt_path ({path}) must be a checkpoint of chargpt_lightning or of nanoGPT")


def _name_of_run(found: Any) -> str:
    return found if isinstance(found, str) and Path(found).name == found else ""


def _has_optimizer_state(checkpoint: dict[str, Any]) -> bool:
    """Whether a run can resume from it; an optimizer has no state before its first update."""
    match checkpoint:
        case {"loops": {"fit_loop": dict()}, "optimizer_states": [{"state": dict(state)}], "lr_schedulers": [_]}:
            return bool(state) or checkpoint["global_step"] == 0
    return False


def _ratios(found: Any) -> dict[str, float]:
    return {name: ratio for name, ratio in found.items() if isinstance(ratio, float)} if isinstance(found, dict) else {}


def _text_of(checkpoint: dict[str, Any]) -> tuple[str | list[str], str | None]:
    match checkpoint:
        case {"CharDataModule": {"text": str() | list() as text, "sha256": str() | None as sha256}} if all(
            isinstance(one, str) for one in text
        ):
            return text, sha256
    return "auto", None


def pack(weights: dict[str, Tensor], hparams: dict[str, Any], global_step: int) -> dict[str, Any]:
    """A checkpoint of this program that holds a network and no run.

    Args:
        weights: Of the network, by the network's own names.
        hparams: The arguments of the CharGPT that is to hold it.
        global_step: Updates made.
    """
    return {
        "pytorch-lightning_version": L.__version__,
        "epoch": 0,
        "global_step": global_step,
        "state_dict": {f"gpt.{name}": weight.float() for name, weight in weights.items()},
        "hparams_name": "kwargs",
        "hyper_parameters": hparams,
    }


def network_weights(checkpoint: dict[str, Any]) -> dict[str, Tensor]:
    """The weights in a checkpoint of this program, by the network's own names, in float32 however they were kept."""
    return {name.removeprefix("gpt."): weight.float() for name, weight in checkpoint["state_dict"].items()}


def require_same_shapes(expected: dict[str, Tensor], found: dict[str, Tensor]) -> None:
    """Checks the weights of a checkpoint against those of a network, by name.

    Raises:
        ConfigError: If one is missing, unknown or of another shape; it names the first.
    """
    for name in sorted(expected.keys() | found.keys()):
        there, here = (_shape(state.get(name)) for state in (found, expected))
        if there != here:
            raise ConfigError(f"ckpt_path: {name} ({there}) must be as in this network ({here})")


def _shape(weights: Tensor | None) -> str:
    return "absent" if weights is None else " x ".join(map(str, weights.shape))


def _is_intact(path: Path) -> bool:
    """Whether no bit of the archive has changed, and reading it takes no more memory than the file has bytes.

    torch.load looks neither at checksums nor at what is a directory. torch.save compresses nothing, and has no need of
    what makes much of a few bytes: bytearrays, tensors of a size, encodings.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        plain = all(member.compress_type == zipfile.ZIP_STORED and not member.external_attr for member in members)
        if not plain or sum(member.file_size for member in members) > path.stat().st_size or archive.testzip():
            return False
        (pickled,) = (member for member in members if member.filename.endswith("/data.pkl"))
        instructions = pickletools.genops(archive.read(pickled))
        return not any(code.name == "GLOBAL" and INFLATES.search(str(arg)) for code, arg, _ in instructions)


def _tensors(content: Any) -> Iterator[Tensor]:
    """The tensors in dicts, lists and tuples, which may hold each other many times over."""
    waiting, seen = [content], set()
    while waiting:
        part = waiting.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, Tensor):
            yield part
        elif isinstance(part, dict | list | tuple):
            waiting += part.values() if isinstance(part, dict) else part


class WholeFileIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and moves it there: Lightning's own way crosses file systems, in pieces."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Saves to `path`, or raises OSError and leaves there what was."""
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, buffer.getbuffer())
