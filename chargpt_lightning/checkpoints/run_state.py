"""Checks the state of a run in a checkpoint: damage is reported before training starts, in one line."""

import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from chargpt_lightning.optim.muon import Muon
from chargpt_lightning.utils.errors import ConfigError
from chargpt_lightning.utils.utf8 import is_encodable

LIMIT = 2**63  # larger numbers can only come from a damaged file
MAX_COLUMNS = 1000  # of metrics.csv
DAMAGED = "ckpt_path ({0}) must contain the state of a run as `fit` saves it, but {1}; use another checkpoint"


def require_intact_state(checkpoint: dict[str, Any], path: Path, of_subclass: bool = False) -> None:
    """Checks the form of those parts of a checkpoint that Lightning and the callbacks restore.

    Args:
        checkpoint: The content, in this package's format.
        path: The file, for the error message.
        of_subclass: Whether a subclass of CharGPT saved it, whose scheduler may be another.

    Raises:
        ConfigError: If a part is damaged.
    """
    for name, is_intact in PARTS.items():
        if name == "lr_schedulers" and of_subclass:
            continue
        if name in checkpoint and not is_intact(checkpoint[name]):
            raise ConfigError(DAMAGED.format(path, f"its {name} is damaged"))


def require_moments(checkpoint: dict[str, Any], path: Path) -> None:
    """Checks that a run could continue with the optimizer's state: one that is not a number would spoil the weights.

    Args:
        checkpoint: The content, in this package's format, of which require_intact_state approves.
        path: The file, for the error message.

    Raises:
        ConfigError: If a moment is not a number.
    """
    for state in checkpoint.get("optimizer_states", []):
        for number, moments in state["state"].items():
            for name, moment in moments.items():
                if isinstance(moment, Tensor) and moment.isnan().any():
                    raise ConfigError(DAMAGED.format(path, f"{name} of weight {number} is not a number"))


def _are_callbacks(found: Any) -> bool:
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        return False
    scores = [state.get("best_model_score") for state in found.values() if isinstance(state, dict)]
    return (
        all(isinstance(state, dict) for state in found.values()) and all(map(_is_score, scores)) and _is_report(found)
    )


def _is_score(found: Any) -> bool:
    return found is None or isinstance(found, int | float) or (isinstance(found, Tensor) and found.numel() == 1)


def _is_report(callbacks: dict[str, Any]) -> bool:
    losses = callbacks.get("Report", {"val_losses": {}}).get("val_losses")
    return isinstance(losses, dict) and all(
        _is_count(step) and isinstance(loss, float) and math.isfinite(loss) for step, loss in losses.items()
    )


def _is_count(found: Any) -> bool:
    return isinstance(found, int) and 0 <= found < LIMIT


def _are_counts(found: Any) -> bool:
    """Whether nested dicts contain only counts."""
    if isinstance(found, dict):
        return all(isinstance(name, str) and _are_counts(part) for name, part in found.items())
    return _is_count(found)


def _is_history(found: Any) -> bool:
    match found:
        case {"rows": int(rows), "columns": list(columns)} if len(columns) <= MAX_COLUMNS:
            return _is_count(rows) and all(isinstance(name, str) and is_encodable(name) for name in columns)
    return found == {} or (
        isinstance(found, dict) and found.keys() <= {"run", "rows"} and _is_count(found.get("rows", 0))
    )


def _are_schedulers(found: Any) -> bool:
    return isinstance(found, list) and all(map(_is_scheduler, found))


def _is_scheduler(found: Any) -> bool:
    """Whether a state has the types of LambdaLR's, which it would replace."""
    scheduler = LambdaLR(SGD([nn.Parameter(torch.zeros(()))]), lambda step: 1.0)
    expected = scheduler.state_dict()
    return isinstance(found, dict) and all(
        type(value) is type(expected[name])
        if name in expected
        else isinstance(name, str) and not hasattr(scheduler, name)
        for name, value in found.items()
    )


def _are_optimizers(found: Any) -> bool:
    match found:
        case []:  # of a checkpoint that contains only weights
            return True
        case [{"state": dict(state), "param_groups": list(groups)}]:
            return all(isinstance(part, dict) for part in state.values()) and all(map(_is_group, groups))
    return False


def _is_group(found: Any) -> bool:
    match found:
        case {"params": list(numbers)}:
            return all(isinstance(number, int | str) for number in numbers)
    return False


def _is_version(found: Any) -> bool:
    return isinstance(found, str) and re.fullmatch(r"\d+(\.\d+)+(\.?(a|b|rc|dev|post)\d+)*(\+\w+)?", found) is not None


PARTS: dict[str, Callable[[Any], bool]] = {
    "pytorch-lightning_version": _is_version,
    "epoch": _is_count,
    "callbacks": _are_callbacks,
    "loops": lambda found: isinstance(found, dict) and _are_counts(found),
    "optimizer_states": _are_optimizers,
    "lr_schedulers": _are_schedulers,
    "history": _is_history,
    "CharDataModule": lambda found: isinstance(found, dict),
}


@contextmanager
def restoring(trainer: L.Trainer, path: Path) -> Iterator[None]:
    """Reports damage that shows only when a trainer restores a checkpoint in the context.

    Args:
        trainer: The trainer.
        path: The checkpoint, for the error message.

    Raises:
        ConfigError: If the checkpoint does not fit the run or is damaged.
    """
    restoration = _Restoration(path)
    trainer.callbacks.insert(0, restoration)  # type: ignore[attr-defined]
    try:
        yield
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        if not restoration.is_running or isinstance(error, ConfigError):
            raise
        raise ConfigError(DAMAGED.format(path, f"restoring it fails: {type(error).__name__}: {error}")) from error


class _Restoration(Callback):
    """Knows whether a trainer is restoring a checkpoint, and checks the optimizer's state afterwards."""

    def __init__(self, path: Path) -> None:
        self.is_running = False
        self._path = path

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Notes the start."""
        self.is_running = True

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Notes the end in `fit`.

        Raises:
            ConfigError: If the optimizer's state does not fit the weights.
        """
        for optimizer in trainer.optimizers:
            if (problem := _misfit(optimizer)) is not None:
                raise ConfigError(DAMAGED.format(self._path, f"its optimizer's {problem}"))
        self.is_running = False

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Notes the end in `validate`."""
        self.is_running = False

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Notes the end in `predict`."""
        self.is_running = False


def _misfit(optimizer: Optimizer) -> str | None:
    """Names the first part of an optimizer's state that does not fit its weight: a fused kernel would not check."""
    for group in optimizer.param_groups if isinstance(optimizer, AdamW | Muon) else ():
        moments = ("momentum_buffer",) if "momentum" in group else ("exp_avg", "exp_avg_sq")
        for weight in group["params"]:
            state = optimizer.state.get(weight, {})
            for name in ("step", *moments) if state else ():
                shape = torch.Size() if name == "step" else weight.shape
                value = state.get(name)
                if not isinstance(value, Tensor) or value.shape != shape or not value.is_floating_point():
                    return f"{name} is not a tensor of shape {tuple(shape)}"
    return None
