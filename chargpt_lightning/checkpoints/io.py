"""Reads checkpoint files without running code in them, and writes them atomically."""

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor

from chargpt_lightning.checkpoints.archive import archive_of, is_harmless, is_plain
from chargpt_lightning.checkpoints.run_state import LIMIT, require_intact_state
from chargpt_lightning.checkpoints.training_settings import settings_in
from chargpt_lightning.models import build_network
from chargpt_lightning.models.base import SHAPE, GPTConfig
from chargpt_lightning.utils.atomic import write_atomically
from chargpt_lightning.utils.errors import ConfigError

TEXTS = ("alphabet", "architecture", "optimizer", "lr_decay")  # hyperparameters; all others are numbers
LEGACY_DEFAULTS = {"architecture": "gpt2", "optimizer": "adamw", "n_gram": 1}  # of checkpoints that do not contain them


@dataclass(frozen=True)
class CheckpointFacts:
    """Description of a checkpoint: its network, its text and its run.

    Args:
        hparams: The arguments of its CharGPT, by name.
        text: Name, paths or pattern of the training text; "auto" if the checkpoint does not contain it.
        sha256: Checksum of that text; None if the checkpoint does not contain it.
        global_step: Number of updates made.
        run: Name of the run's directory; "" if the checkpoint was saved outside `fit`.
        resumable: Whether the checkpoint contains the optimizer's state, not only weights.
        training: The run's training settings, by nanoGPT's names; may be incomplete.
        dropouts: Dropout probabilities of a Hugging Face folder, by name; empty for other checkpoints, which have one.
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
    """Returns the content of a file that torch.save wrote, without running any code in it.

    Raises:
        ConfigError: If the file is missing or damaged, or contains code.
    """
    if not path.is_file():
        raise ConfigError(f"ckpt_path ({path}) must be a checkpoint file, but there is no such file")
    try:
        if is_harmless(path):
            mapped = sys.platform != "win32"  # on Windows a mapped file cannot be replaced
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
            if is_plain(content):
                return content
    except Exception:  # the type of error depends on where the file is damaged
        pass
    raise ConfigError(f"ckpt_path ({path}) must be an intact checkpoint file that contains no code")


def read_checkpoint(path: Path, of_subclass: bool = False) -> CheckpointFacts:
    """Reads the facts of a checkpoint file in this package's format.

    Args:
        path: The file.
        of_subclass: Whether a subclass of CharGPT saved it, whose network, optimizer and scheduler may be others.

    Raises:
        ConfigError: If the file is missing or damaged, contains code, or is not in this package's format.
    """
    return facts_of(load_safely(path), path, of_subclass)


def facts_of(checkpoint: Any, path: Path, of_subclass: bool = False) -> CheckpointFacts:
    """Returns the facts of a checkpoint that has been read already.

    Args:
        checkpoint: The content of a file.
        path: The file, for the error message.
        of_subclass: Whether a subclass of CharGPT saved it, whose network, optimizer and scheduler may be others.

    Raises:
        ConfigError: If the content is not in this package's format.
    """
    match checkpoint:
        case {
            "hyper_parameters": {"alphabet": str()} as hparams,
            "global_step": int() as global_step,
            "state_dict": dict() as weights,
        } if 0 <= global_step < LIMIT and (of_subclass or _are_plausible(LEGACY_DEFAULTS | hparams, weights)):
            hparams = LEGACY_DEFAULTS | hparams
            if not of_subclass:
                _require_weights_of(hparams, weights, path)
            _require_finite(weights, path)
            require_intact_state(checkpoint, path, of_subclass)
            text, sha256 = _text_of(checkpoint)
            run = _name_of_run(checkpoint.get("history", {}).get("run"))
            resumable = _has_optimizer_state(checkpoint, of_subclass)
            training = settings_in(checkpoint.get("training"))
            dropouts = _ratios(checkpoint.get("dropouts"))
            return CheckpointFacts(hparams, text, sha256, global_step, run, resumable, training, dropouts)
    raise ConfigError(f"ckpt_path ({path}) must be a checkpoint of chargpt_lightning, nanoGPT or Hugging Face")


def _are_plausible(hparams: dict[str, Any], weights: dict[str, Any]) -> bool:
    """Whether hyperparameters and weights have the right types, and there are no more layers than weights.

    Otherwise a tiny file could make this package build a huge network.
    """
    return (
        all(isinstance(value, str) if name in TEXTS else _is_number(value) for name, value in hparams.items())
        and all(isinstance(hparams.get(name), kind) for name, kind in SHAPE.items())
        and hparams["n_layer"] <= len(weights)
        and all(isinstance(weight, Tensor) and weight.is_floating_point() for weight in weights.values())
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and abs(value) < LIMIT


def _require_weights_of(hparams: dict[str, Any], weights: dict[str, Tensor], path: Path) -> None:
    """Checks that weights are those of the network that the hyperparameters describe.

    Raises:
        ConfigError: If they are not, or if there is no such network.
    """
    try:
        config = GPTConfig(len(hparams["alphabet"]), **{name: hparams[name] for name in SHAPE})
        with torch.device("meta"):  # needs no memory, however large the network is
            network = build_network(hparams["architecture"], config)
        require_same_shapes({f"gpt.{name}": weight for name, weight in network.state_dict().items()}, weights)
    except (ConfigError, RuntimeError, TypeError) as error:
        problem = str(error).removeprefix("ckpt_path: ")
        raise ConfigError(f"ckpt_path ({path}) must contain the weights of its own network, but: {problem}") from error


def _require_finite(weights: dict[str, Tensor], path: Path) -> None:
    for name, weight in weights.items():
        if not weight.float().isfinite().all():
            raise ConfigError(f"ckpt_path ({path}) must contain only finite weights, but {name} has others")


def _name_of_run(found: Any) -> str:
    return found if isinstance(found, str) and Path(found).name == found else ""


def _has_optimizer_state(checkpoint: dict[str, Any], of_subclass: bool) -> bool:
    """Whether a run can resume from the checkpoint. Before the first update an optimizer has no state to save."""
    match checkpoint:
        case {
            "loops": {"fit_loop": dict()},
            "optimizer_states": [{"state": dict(state)}],
            "lr_schedulers": list(schedulers),
        }:
            return (bool(state) or checkpoint["global_step"] == 0) and (of_subclass or len(schedulers) == 1)
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
    """Returns a checkpoint in this package's format that contains a network, but no state of a run.

    Args:
        weights: The network's weights, by the network's own names.
        hparams: The arguments of the CharGPT that contains the network.
        global_step: Number of updates made.
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
    """Returns the weights in a checkpoint by the network's own names, converted to float32."""
    return {name.removeprefix("gpt."): weight.float() for name, weight in checkpoint["state_dict"].items()}


def val_losses_of(checkpoint: dict[str, Any]) -> dict[int, float]:
    """Returns the val losses of a checkpoint's run so far, by step."""
    losses: dict[int, float] = checkpoint.get("callbacks", {}).get("Report", {}).get("val_losses", {})
    return losses


def require_same_shapes(expected: dict[str, Tensor], found: dict[str, Tensor]) -> None:
    """Checks the weights of a checkpoint against those of a network, by name.

    Raises:
        ConfigError: If one is missing, unknown or of another shape; it names the first.
    """
    for name in sorted(expected.keys() | found.keys()):
        shape, required = (_shape(state.get(name)) for state in (found, expected))
        if shape != required:
            raise ConfigError(f"ckpt_path: {name} ({shape}) must be as in this network ({required})")


def _shape(weights: Tensor | None) -> str:
    return "absent" if weights is None else " x ".join(map(str, weights.shape))


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes each checkpoint to a temporary file in the same directory, then renames it.

    Lightning's own writer is not atomic: it may copy from a temporary directory on another file system.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Saves a checkpoint.

        Raises:
            ConfigError: If it contains something that load_safely refuses; the old file is unchanged.
            OSError: If it cannot be written; the old file is unchanged.
        """
        archive = archive_of(checkpoint)
        if archive is None:
            raise ConfigError(
                f"{_refused_part(checkpoint)} must consist of numbers, texts, tensors, "
                "and lists, tuples, sets and dicts of these, or a run could not be resumed"
            )
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with archive.getbuffer() as content:
            write_atomically(path, content)


def _refused_part(checkpoint: dict[str, Any]) -> str:
    """Names the part of a checkpoint that could not be loaded again."""
    callbacks = {f"the state of callback {name}": state for name, state in checkpoint.get("callbacks", {}).items()}
    parts = callbacks | {f"{name} of the checkpoint": part for name, part in checkpoint.items()}
    return next((name for name, part in parts.items() if archive_of(part) is None), "the checkpoint")
