"""The checkpoint that a command starts from, and the settings that come with it."""

import inspect
import json
import logging
import re
import reprlib  # shortens a long alphabet
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import yaml
from jsonargparse import Namespace
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.strategies import ModelParallelStrategy

from chargpt_lightning.checkpoints.convert import file_to_restore, read_any_checkpoint
from chargpt_lightning.checkpoints.io import CheckpointFacts, facts_of, load_safely, read_checkpoint
from chargpt_lightning.checkpoints.optimizer_state import number_by_position
from chargpt_lightning.checkpoints.run_state import require_moments, restoring
from chargpt_lightning.models.base import SHAPE
from chargpt_lightning.module import CharGPT
from chargpt_lightning.trainer.validation import listed
from chargpt_lightning.utils.errors import ConfigError
from chargpt_lightning.utils.run_dir import CHECKPOINTS, find_checkpoint, is_run, relative_to_cwd

log = logging.getLogger(__name__)

FIXED = ("architecture", *SHAPE)  # hyperparameters that the weights depend on
REQUEUED = r"hpc_ckpt_(\d+)\.ckpt"  # Lightning's name of the checkpoint that it saves on SLURM's signal
IDS = ("id", "version", "run_id", "experiment_key")  # that identify a run to W&B, TensorBoard, MLflow and Comet
LINKED = ("alphabet", "seed")  # hyperparameters that come from the data and from seed_everything


@dataclass(frozen=True)
class Origin:
    """The checkpoint that a command starts from.

    Args:
        path: Its file or folder.
        converted: Its content in this package's format, if another program made it; otherwise None.
        facts: What it contains about itself.
        run: Directory of the run that is resumed; None for `validate` and `predict`, and if the file is in no run.
        last_step: Step of that run's last.ckpt if it is later than the checkpoint's, so that `fit` branches off
            into a new directory; None if it resumes in `run`.
    """

    path: Path
    converted: dict[str, Any] | None
    facts: CheckpointFacts
    run: Path | None
    last_step: int | None = None

    @property
    def branches(self) -> bool:
        """Whether the run resumes in a new directory, and does not change the old one."""
        return self.last_step is not None

    @property
    def step(self) -> int:
        """The update that `fit` starts at: the first, if the checkpoint contains only weights."""
        return self.facts.global_step if self.facts.resumable else 0

    def content(self) -> dict[str, Any]:
        """Returns the checkpoint in this package's format.

        Raises:
            ConfigError: If it can no longer be read.
        """
        return load_safely(self.path) if self.converted is None else self.converted

    @contextmanager
    def file(self, trainer: L.Trainer, model: CharGPT) -> Iterator[Path]:
        """Yields the checkpoint as a file that this trainer and its strategy can restore in the context."""
        content = self.converted
        if content is None and isinstance(trainer.strategy, ModelParallelStrategy):
            content = self._renumbered(model)
        file = nullcontext(self.path) if content is None else file_to_restore(content, trainer)
        with file as path, restoring(trainer, self.path):
            yield path

    def _renumbered(self, model: CharGPT) -> dict[str, Any] | None:
        """Returns a checkpoint of an older version whose optimizer state FSDP2 could not load; None if it can."""
        content = self.content()
        return content if number_by_position(content, model, model.parameter_groups()) else None

    def announcement(self) -> str:
        """Returns a line that says where a run resumes."""
        if self.branches:
            return (
                f"branching off {self.run} at step {self.step}, in a new directory; "
                f"{self.run} is not changed and ends at step {self.last_step}"
            )
        return f"resuming {self.run or 'in a new directory'} at step {self.step}"

    def settings(self) -> str:
        """Returns the run's settings, or else the checkpoint's, as a flag; the user's own settings override them."""
        if self.run is not None:
            return f"--config={self.run / 'config.yaml'}"
        model = {name: value for name, value in self.facts.hparams.items() if name not in LINKED}
        data = {"text": self.facts.text, "sha256": self.facts.sha256}
        settings = json.dumps({"model": model, "data": data}, ensure_ascii=False)
        return "--config=" + settings.encode("ascii", "backslashreplace").decode()  # valid in YAML, though not in JSON

    def complete(self, config: Namespace) -> None:
        """Fills in the settings that only the checkpoint contains.

        Raises:
            ConfigError: If the user asks for another network.
        """
        fixed = (*FIXED, "optimizer") if self.facts.resumable else FIXED
        asked = {f"model.{name}": config.model[name] for name in fixed} | {"data.alphabet": config.data.alphabet}
        for name, value in asked.items():
            has = self.facts.hparams[name.split(".")[1]]
            if value not in (None, has):
                given, required = reprlib.repr(value), reprlib.repr(has)
                raise ConfigError(f"{name} ({given}) must be {required} for the network of {self.path}, or not given")
        config.data.alphabet = self.facts.hparams["alphabet"]
        if config.data.text in ("auto", ["auto"]):
            config.data.text = self.facts.text
        if self.run is not None:
            self._move_root(config.trainer)
        if self.branches:
            self._forget_ids(config.trainer)

    def _move_root(self, trainer: Namespace) -> None:
        """Resumes the run where it is, and prints a message if the settings name another directory."""
        assert self.run is not None
        root, asked = self.run.parent.absolute(), Path(trainer.default_root_dir).absolute()
        if asked not in (root, *root.parents):
            log.info("trainer.default_root_dir (%s) is ignored: the run is in %s", asked, self.run.parent)
        trainer.default_root_dir = str(self.run.parent)

    def _forget_ids(self, trainer: Namespace) -> None:
        """Makes a branch a new run to other loggers too, by dropping the old run's ids."""
        assert self.run is not None
        before = yaml.safe_load((self.run / "config.yaml").read_text(encoding="utf-8")).get("trainer", {})
        old = [logger.get("init_args") or {} for logger in listed(before.get("logger")) if isinstance(logger, dict)]
        for logger in listed(trainer.logger):
            for name in IDS:
                given = logger.get("init_args", {}).get(name) if isinstance(logger, Namespace) else None
                if given is not None and any(given == arguments.get(name) for arguments in old):
                    logger.init_args[name] = None


def find_origin(
    subcommand: str, ckpt_path: str | Path | None, root: Path, text: str | list[str], of_subclass: bool = False
) -> Origin | None:
    """Looks up the checkpoint that `--ckpt_path` names, or the default of a subcommand.

    Args:
        subcommand: By default `fit` starts without a checkpoint, and the others use the best.
        ckpt_path: A checkpoint of any program; a run's directory, which stands for its last checkpoint in `fit` and
            for its best one otherwise; or "best" or "last" of the newest run below `root`.
        root: Directory of runs.
        text: The user's `data.text`.
        of_subclass: Whether a subclass of CharGPT reads it.

    Raises:
        ConfigError: If there is no such checkpoint, or it cannot be read.
    """
    path = ckpt_path or (_requeued_checkpoint(root, of_subclass) if subcommand == "fit" else "best")
    if path is None:
        return None
    path = find_checkpoint(path, root, of_run="last" if subcommand == "fit" else "best")
    log.info("checkpoint: %s", path)
    checkpoint, is_converted = read_any_checkpoint(path, text)
    facts = facts_of(checkpoint, path, of_subclass)
    if not of_subclass:
        _require_settings_of_chargpt(facts.hparams, path)
    if subcommand == "fit":
        require_moments(checkpoint, path)
    run = _run_of(path, facts) if subcommand == "fit" else None
    if run is not None and not facts.resumable:
        raise ConfigError(
            f"ckpt_path ({path}) must contain the optimizer's state to resume {run}, but contains only weights"
        )
    return Origin(
        path, checkpoint if is_converted else None, facts, run, _later_step(path, facts.global_step, run, of_subclass)
    )


def _require_settings_of_chargpt(hparams: dict[str, Any], path: Path) -> None:
    if others := hparams.keys() - inspect.signature(CharGPT).parameters:
        raise ConfigError(
            f"ckpt_path ({path}) has settings that CharGPT does not have: {', '.join(sorted(others))}; "
            "if a subclass of CharGPT was trained, use the main.py that trained it (docs/extending.md)"
        )


def _later_step(checkpoint: Path, step: int, run: Path | None, of_subclass: bool) -> int | None:
    """Returns the step of a run's last.ckpt, if it is later than that of the checkpoint from which the run resumes.

    Raises:
        ConfigError: If last.ckpt cannot be read.
    """
    if run is None or not (last := run / CHECKPOINTS / "last.ckpt").exists() or last.samefile(checkpoint):
        return None
    try:
        last_step = read_checkpoint(last, of_subclass).global_step
    except ConfigError as error:
        raise ConfigError(f"{error}; to resume from {checkpoint} without it, move it away") from error
    return last_step if last_step > step else None


def _run_of(checkpoint: Path, facts: CheckpointFacts) -> Path | None:
    """Returns the directory of a checkpoint's run: around it or, if saved on SLURM's signal, beside it."""
    directory = checkpoint.absolute().parent
    beside = re.fullmatch(REQUEUED, checkpoint.name)
    run = directory.parent if directory.name == CHECKPOINTS else directory / facts.run if beside else None
    return relative_to_cwd(run) if run is not None and facts.run and is_run(run) else None


def _requeued_checkpoint(root: Path, of_subclass: bool) -> Path | None:
    """Returns the checkpoint that Lightning saved when SLURM requeued the job, or a later one of that run."""
    if not SLURMEnvironment.detect():
        return None
    names = (re.fullmatch(REQUEUED, path.name) for path in root.glob("hpc_ckpt_*"))
    numbers = [int(match[1]) for match in names if match]
    if not numbers:
        return None
    requeued = root / f"hpc_ckpt_{max(numbers)}.ckpt"
    facts = read_checkpoint(requeued, of_subclass)
    last = root / facts.run / CHECKPOINTS / "last.ckpt"
    return last if last.exists() and read_checkpoint(last, of_subclass).global_step > facts.global_step else requeued


def load_weights(model: CharGPT, origin: Origin) -> None:
    """Loads the weights of a checkpoint that contains no optimizer state into the network of a new run."""
    log.info("starting at step 0 with the weights of %s, which contains no optimizer state", origin.path)
    _warn_of_one_dropout(origin, model.hparams["dropout"])
    checkpoint = origin.content()
    model.on_load_checkpoint(checkpoint)
    model.load_state_dict(checkpoint["state_dict"])


def _warn_of_one_dropout(origin: Origin, dropout: float) -> None:
    """Names the dropouts of a Hugging Face folder if they differ."""
    dropouts = origin.facts.dropouts
    if len(set(dropouts.values())) > 1:
        found = ", ".join(f"{name} {ratio:g}" for name, ratio in dropouts.items())
        message = "dropout: %s has %s, but this network has a single dropout, %s (--model.dropout)"
        log.warning(message, origin.path, found, dropout)
