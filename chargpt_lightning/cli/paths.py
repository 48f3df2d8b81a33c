"""Expands `~` in the settings that are paths."""

from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from chargpt_lightning.utils.paths import expand_user

# `prompt` may be a text, so it is expanded where it is read.
PATHS = ("ckpt_path", "default_root_dir", "dirpath", "out", "out_dir", "runs", "save_dir", "text")


def expand_paths(settings: Namespace) -> Namespace:
    """Expands `~` in all settings that are paths, those of callbacks and loggers too; changes `settings` in place."""
    for name, value in vars(settings).items():
        if name in PATHS:
            setattr(settings, name, _expanded(value))
        else:
            for part in value if isinstance(value, list) else [value]:
                if isinstance(part, Namespace):
                    expand_paths(part)
    return settings


def _expanded(value: Any) -> Any:
    if isinstance(value, list):
        return [_expanded(part) for part in value]
    return type(value)(expand_user(str(value))) if isinstance(value, str | Path) else value
