"""The training settings that a checkpoint contains, by nanoGPT's names."""

import math
from typing import Any

import lightning as L

COUNTS = {  # numbers of batches or updates; translating them to Lightning's units requires the number of devices
    "gradient_accumulation_steps": "trainer.accumulate_grad_batches",
    "eval_interval": "trainer.val_check_interval",
}
SETTING_TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("batch_size", "eval_iters", "log_interval", "max_iters", *COUNTS), (int,)),
    "grad_clip": (int, float),
}
ATTRIBUTES = {  # of a Trainer or its data module
    "batch_size": ("data", "batch_size"),
    "eval_iters": ("data", "eval_iters"),
    "grad_clip": ("trainer", "gradient_clip_val"),
    "log_interval": ("trainer", "log_every_n_steps"),
    "max_iters": ("trainer", "max_steps"),
}
LIMIT = 2**63  # larger values can only come from a damaged file


def updates_between_evaluations(trainer: Any) -> int | None:
    """Returns the number of updates between evaluations; None if Lightning does not count batches."""
    interval, batches = trainer.val_check_interval, trainer.accumulate_grad_batches
    return math.ceil(interval / batches) if isinstance(interval, int) and batches > 0 else None


def settings_in(config: Any) -> dict[str, Any]:
    """Returns the settings of SETTING_TYPES in nanoGPT's `config`, without values of other types or out of range."""
    found = config if isinstance(config, dict) else {}
    return {
        name: found[name]
        for name, types in SETTING_TYPES.items()
        if type(found.get(name)) in types and 0 <= found[name] < LIMIT
    }


def settings_of(trainer: L.Trainer) -> dict[str, Any]:
    """Returns the settings of SETTING_TYPES that a Trainer uses, in units that do not depend on its devices."""
    parts = {"trainer": trainer, "data": trainer.datamodule}  # type: ignore[attr-defined]
    settings = {name: getattr(parts[part], attribute, None) for name, (part, attribute) in ATTRIBUTES.items()}
    if not settings["grad_clip"] or trainer.gradient_clip_algorithm == "value":
        settings["grad_clip"] = 0.0  # off; nanoGPT cannot clip by value
    settings["gradient_accumulation_steps"] = trainer.accumulate_grad_batches * trainer.world_size
    settings["eval_interval"] = updates_between_evaluations(trainer)
    return settings_in(settings)
