"""What a resumed run does otherwise than before: lines for the user."""

import json
from collections.abc import Iterator
from typing import Any

from jsonargparse import Namespace

PRECISIONS = {"64": "64-true", "32": "32-true", "16": "16-mixed", "bf16": "bf16-mixed"}  # Lightning's short names


def changes(before: Namespace, now: Namespace) -> Iterator[str]:
    """Yields a line for each setting of a run that has changed, and one if it is lengthened beyond its decay."""
    was, is_now = _settings(before), _settings(now)
    if is_now["data.sha256"] == was["data.sha256"]:  # the same text under another name
        del is_now["data.text"]
    del is_now["data.alphabet"], is_now["trainer.default_root_dir"]  # cannot change
    for name, value in is_now.items():
        if value != was[name]:
            moved = ", so the learning rate decay ends at another step" if name == "model.lr_decay_iters" else ""
            yield f"changed: {name} is {value}, was {was[name]}{moved}"
    same_decay = now.model.lr_decay_iters == before.model.lr_decay_iters
    if same_decay and now.trainer.max_steps > before.trainer.max_steps:
        yield from decay_ends_early(now)


def decay_ends_early(config: Namespace) -> Iterator[str]:
    """Yields a line if a run is to continue beyond the end of its learning rate decay."""
    model, steps = config.model, config.trainer.max_steps
    if model.decay_lr and model.lr_decay_iters < steps:
        yield (
            f"the learning rate is model.min_lr ({model.min_lr}) from step {model.lr_decay_iters} on; "
            f"--model.lr_decay_iters {steps} decays it until the end"
        )


def _settings(config: Namespace) -> dict[str, str]:
    groups = {group: vars(config[group]) for group in ("trainer", "model", "data")}
    settings = {f"{group}.{name}": value for group, values in groups.items() for name, value in values.items()}
    settings["seed_everything"] = config.seed_everything
    precision = str(config.trainer.precision)
    settings["trainer.precision"] = PRECISIONS.get(precision, precision)
    if clip := config.trainer.gradient_clip_val:
        settings["trainer.gradient_clip_val"] = float(clip)  # 1 is 1.0 here, unlike in limit_val_batches
    return {name: _written(value) for name, value in settings.items()}


def _written(value: Any) -> str:
    """Returns a setting as a user would write it."""
    value = Namespace(value=value).as_dict()["value"]  # type: ignore[no-untyped-call]
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
