"""The settings for training that a checkpoint carries, in nanoGPT's words."""

import math
from typing import Any

import lightning as L

COUNTS = {
    "gradient_accumulation_steps": "trainer.accumulate_grad_batches",
    "eval_interval": "trainer.val_check_interval",
}
OF_A_RUN: dict[str, tuple[type, ...]] = {  # settings for training that a checkpoint carries, and their types
    **dict.fromkeys(("batch_size", "eval_iters", "log_interval", "max_iters", *COUNTS), (int,)),
    "grad_clip": (int, float),
}
PLACES = {  # of these settings in a Trainer and its data module
    "batch_size": ("data", "batch_size"),
    "eval_iters": ("data", "eval_iters"),
    "grad_clip": ("trainer", "gradient_clip_val"),
    "log_interval": ("trainer", "log_every_n_steps"),
    "max_iters": ("trainer", "max_steps"),
}
LARGEST = 2**63  # what is not below it is no count


def updates_between_evaluations(trainer: Any) -> int | None:
    """None where Lightning goes by another measure."""
    interval, batches = trainer.val_check_interval, trainer.accumulate_grad_batches
    return math.ceil(interval / batches) if isinstance(interval, int) and batches > 0 else None


def settings_in(config: Any) -> dict[str, Any]:
    """The settings OF_A_RUN in nanoGPT's `config`; what is of another type, or below 0, is ignored."""
    found = config if isinstance(config, dict) else {}
    return {
        name: found[name]
        for name, types in OF_A_RUN.items()
        if type(found.get(name)) in types and 0 <= found[name] < LARGEST
    }


def settings_of(trainer: L.Trainer) -> dict[str, Any]:
    """The settings OF_A_RUN that a Trainer has, the same for any number of devices."""
    parts = {"trainer": trainer, "data": trainer.datamodule}  # type: ignore[attr-defined]
    settings = {name: getattr(parts[part], attribute, None) for name, (part, attribute) in PLACES.items()}
    if not settings["grad_clip"] or trainer.gradient_clip_algorithm == "value":
        settings["grad_clip"] = 0.0  # off; clipping by value has no counterpart
    settings["gradient_accumulation_steps"] = trainer.accumulate_grad_batches * trainer.world_size
    settings["eval_interval"] = updates_between_evaluations(trainer)
    return settings_in(settings)
