"""A run's config.yaml: how it is written, and checks that it does not point outside the run's directory.

A run may come from somebody else, so its settings are not trusted.
"""

import re
from pathlib import Path
from typing import Any

import lightning as L
import yaml
from lightning.pytorch.cli import SaveConfigCallback

from chargpt_lightning.cli.import_policy import named_texts
from chargpt_lightning.cli.recipes import require_settings
from chargpt_lightning.module import CharGPT
from chargpt_lightning.trainer.callback_validation import without
from chargpt_lightning.utils.atomic import write_atomically
from chargpt_lightning.utils.errors import ConfigError
from chargpt_lightning.utils.paths import expand_user

MAX_BYTES = 2**20
DIRECTORIES = ("dirpath", "save_dir")
DEFAULTS = (("save_dir", "."), ("save_dir", "./mlruns"))  # defaults of WandbLogger and MLFlowLogger


def require_contained(run: Path, named: set[str]) -> None:
    """Checks that a run's config.yaml names no files outside its directory, and does not expand to a huge size.

    Args:
        run: The run's directory.
        named: Texts in the settings that the user gives in the same command, which are trusted.

    Raises:
        ConfigError: If a setting points outside the run's directory, or config.yaml is too large or uses aliases.
    """
    path = run / "config.yaml"
    settings = _load_bounded(path)
    require_settings(path)
    for name, value in named_texts(settings):
        if value not in named and _points_outside(run, name, value):
            raise ConfigError(
                f"{path}: {name} ({value}) must not point outside the run's directory; "
                "if you trust it, name it again with --config or a flag"
            )


def _load_bounded(path: Path) -> Any:
    """Reads a YAML file; refuses aliases, with which a small file can contain any number of settings."""
    content = path.read_bytes()[: MAX_BYTES + 1]
    try:
        aliases = any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(content, yaml.SafeLoader))
        if not aliases and len(content) <= MAX_BYTES:
            return yaml.safe_load(content)
    except yaml.YAMLError:
        return None  # require_settings reports the error
    raise ConfigError(f"{path} must be at most 1 MiB of YAML without aliases, as `fit` writes it")


def _points_outside(run: Path, name: str, value: str) -> bool:
    group, last = name.split(".")[0], name.split(".")[-1]
    if group == "sample":
        return last == "prompt" and value.startswith("FILE:")
    if group != "trainer" or name == "trainer.default_root_dir":  # replaced by the run's own directory
        return False
    if last == "filename":
        return re.search(r"[/\\]|\.\.", re.sub(r"{[^{}]*}", "", value)) is not None  # {val/loss} is a metric
    if (last, value) in DEFAULTS:
        return False
    if last in DIRECTORIES and value:
        return "://" in value or not Path(expand_user(value)).resolve().is_relative_to(run.resolve())
    return "::" in value  # a chain of fsspec file systems


class SaveConfig(SaveConfigCallback):
    """Saves the settings of a run atomically, with the text and the learning rate that were found."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Saves nothing yet: LearningRateFinder has to run first."""
        self._resumes = trainer.ckpt_path is not None

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Saves the settings of a new run."""
        if not self._resumes:
            super().setup(trainer, pl_module, stage="fit")

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Replaces the settings of a resumed run, once its state has been restored with the new ones."""
        if self._resumes:
            super().setup(trainer, pl_module, stage="fit")

    def save_config(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Writes config.yaml; a resumed run replaces it."""
        config = self.config.clone()
        data = trainer.datamodule  # type: ignore[attr-defined]
        config.data.text, config.data.sha256, config.data.alphabet = data.corpus.name, data.facts.sha256, None
        assert isinstance(pl_module, CharGPT)
        config.model.learning_rate = pl_module.optimizer_config.learning_rate
        config.trainer.callbacks = without(config.trainer.callbacks, "LearningRateFinder")
        text = self.parser.dump(config, skip_none=False)
        if not text.isascii():  # jsonargparse reads files in the system's encoding
            text = yaml.safe_dump(yaml.safe_load(text), sort_keys=False)
        write_atomically(Path(trainer.loggers[0].save_dir or "", "config.yaml"), text.encode())
