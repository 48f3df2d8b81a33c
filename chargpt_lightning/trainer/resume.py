"""What a command takes over from a checkpoint, and how what the user asks for now stands to it."""

import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from reprlib import repr  # cuts a long alphabet short
from typing import Any

import lightning as L
import yaml  # type: ignore[import-untyped]
from jsonargparse import Namespace
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

from chargpt_lightning.checkpoints.convert import file_to_restore, read_any_checkpoint
from chargpt_lightning.checkpoints.io import CheckpointFacts, facts_of, load_safely, read_checkpoint
from chargpt_lightning.trainer.validation import listed
from chargpt_lightning.utils.errors import ConfigError
from chargpt_lightning.utils.run_dir import CHECKPOINTS, is_run, newest_checkpoint, relative_to_cwd

log = logging.getLogger(__name__)

SHAPE = ("architecture", "block_size", "n_layer", "n_head", "n_embd", "bias")  # the weights are of these
REQUEUED = r"hpc_ckpt_(\d+)\.ckpt"  # how Lightning calls the checkpoint that it makes on SLURM's signal
IDS = ("id", "version", "run_id", "experiment_key")  # by which W&B, TensorBoard, MLflow and Comet know a run
LINKED = ("alphabet", "seed")  # hyperparameters that come from the data and from seed_everything


@dataclass(frozen=True)
class Origin:
    """The checkpoint that a command starts from.

    Args:
        path: Where it lies.
        translated: Its content in this package's format, if another program made it; otherwise None.
        facts: What it says of itself.
        run: Directory of the run that continues; None for `validate` and `predict`, and if the file is in no run.
        last_step: Step of that run's last.ckpt if it is later than the checkpoint's, so that `fit` branches off
            into a new directory; None if it continues in `run` itself.
    """

    path: Path
    translated: dict[str, Any] | None
    facts: CheckpointFacts
    run: Path | None
    last_step: int | None = None

    @property
    def branches(self) -> bool:
        """Whether the run continues in a directory of its own, and leaves the old one as it is."""
        return self.last_step is not None

    @property
    def step(self) -> int:
        """The update that `fit` starts at: the first, where nothing but weights is there."""
        return self.facts.global_step if self.facts.resumable else 0

    def content(self) -> dict[str, Any]:
        """The checkpoint in this package's format.

        Raises:
            ConfigError: If it can no longer be read.
        """
        return load_safely(self.path) if self.translated is None else self.translated

    @contextmanager
    def file(self, trainer: L.Trainer) -> Iterator[Path]:
        """The checkpoint as a file in this package's format, for a trainer to restore in the context."""
        if self.translated is None:
            yield self.path
        else:
            with file_to_restore(self.translated, trainer) as path:
                yield path

    def announcement(self) -> str:
        """A line on where a resumed run continues."""
        if self.branches:
            return (
                f"branching off {self.run} at step {self.step}, in a new directory; "
                f"{self.run} stays as it is, up to step {self.last_step}"
            )
        return f"resuming {self.run or 'in a new directory'} at step {self.step}"

    def settings(self) -> str:
        """What stands beneath the user's own settings, as a flag: the whole run's, or the checkpoint's own."""
        if self.run is not None:
            return f"--config={self.run / 'config.yaml'}"
        model = {name: value for name, value in self.facts.hparams.items() if name not in LINKED}
        data = {"text": self.facts.text, "sha256": self.facts.sha256}
        settings = json.dumps({"model": model, "data": data}, ensure_ascii=False)
        return "--config=" + settings.encode("ascii", "backslashreplace").decode()  # YAML's escapes, not JSON's

    def complete(self, config: Namespace) -> None:
        """Sets what only the checkpoint knows.

        Raises:
            ConfigError: If the user asks for a network that its weights do not fit.
        """
        fixed = (*SHAPE, "optimizer") if self.facts.resumable else SHAPE
        asked = {f"model.{name}": config.model[name] for name in fixed} | {"data.alphabet": config.data.alphabet}
        for name, value in asked.items():
            has = self.facts.hparams[name.split(".")[1]]
            if value not in (None, has):
                raise ConfigError(
                    f"{name} ({repr(value)}) must be {repr(has)} for the network of {self.path}, or not be given"
                )
        config.data.alphabet = self.facts.hparams["alphabet"]
        if config.data.text in ("auto", ["auto"]):
            config.data.text = self.facts.text
        if self.run is not None:
            self._move_root(config.trainer)
        if self.branches:
            self._forget_ids(config.trainer)

    def _move_root(self, trainer: Namespace) -> None:
        """The run goes on where it lies, aloud if the settings say another place."""
        assert self.run is not None
        lies, said = self.run.parent.absolute(), Path(trainer.default_root_dir).absolute()
        if said not in (lies, *lies.parents):
            log.info("trainer.default_root_dir (%s) gives way: the run lies in %s", said, self.run.parent)
        trainer.default_root_dir = str(self.run.parent)

    def _forget_ids(self, trainer: Namespace) -> None:
        """A branch is a new run to other loggers too: it does not reuse the names that they know the old run by."""
        assert self.run is not None
        before = yaml.safe_load((self.run / "config.yaml").read_text(encoding="utf-8")).get("trainer", {})
        old = [logger.get("init_args") or {} for logger in listed(before.get("logger")) if isinstance(logger, dict)]
        for logger in listed(trainer.logger):
            for name in IDS:
                given = logger.get("init_args", {}).get(name) if isinstance(logger, Namespace) else None
                if given is not None and any(given == arguments.get(name) for arguments in old):
                    logger.init_args[name] = None


def find_origin(subcommand: str, ckpt_path: str | Path | None, root: Path, text: str | list[str]) -> Origin | None:
    """Looks up what `--ckpt_path` names, or what a command has that names none.

    Args:
        subcommand: `fit` starts anew without a checkpoint, the others take the best.
        ckpt_path: A checkpoint of any program, or "best" or "last" of the newest run below `root`.
        root: Where runs lie.
        text: The user's `data.text`.

    Raises:
        ConfigError: If there is no such checkpoint, or it cannot be read.
    """
    path = ckpt_path or (_requeued_checkpoint(root) if subcommand == "fit" else "best")
    if path is None:
        return None
    path = newest_checkpoint(root, str(path)) if path in ("best", "last") else Path(path)
    log.info("checkpoint: %s", path)
    checkpoint, is_translated = read_any_checkpoint(path, text)
    facts = facts_of(checkpoint, path)
    run = _run_of(path, facts) if subcommand == "fit" else None
    if run is not None and not facts.resumable:
        raise ConfigError(
            f"ckpt_path ({path}) must hold the optimizer's state for {run} to go on, but holds only weights"
        )
    return Origin(path, checkpoint if is_translated else None, facts, run, _later_step(path, facts.global_step, run))


def _later_step(checkpoint: Path, step: int, run: Path | None) -> int | None:
    """The step of a run's last.ckpt, if it is later than that of the checkpoint from which the run is to continue.

    Raises:
        ConfigError: If last.ckpt cannot be read.
    """
    if run is None or not (last := run / CHECKPOINTS / "last.ckpt").exists() or last.samefile(checkpoint):
        return None
    try:
        last_step = read_checkpoint(last).global_step
    except ConfigError as error:
        raise ConfigError(f"{error}; to continue from {checkpoint} without it, move it away") from error
    return last_step if last_step > step else None


def _run_of(checkpoint: Path, facts: CheckpointFacts) -> Path | None:
    """The run that a checkpoint lies in, or beside if SLURM's signal made it."""
    directory = checkpoint.absolute().parent
    beside = re.fullmatch(REQUEUED, checkpoint.name)
    run = directory.parent if directory.name == CHECKPOINTS else directory / facts.run if beside else None
    return relative_to_cwd(run) if run is not None and facts.run and is_run(run) else None


def _requeued_checkpoint(root: Path) -> Path | None:
    """Under SLURM the checkpoint that Lightning made when the job was requeued, or a later one of that run."""
    names = (re.fullmatch(REQUEUED, path.name) for path in root.glob("hpc_ckpt_*"))
    numbers = [int(match[1]) for match in names if match]
    if not numbers or not SLURMEnvironment.detect():
        return None
    requeued = root / f"hpc_ckpt_{max(numbers)}.ckpt"
    facts = read_checkpoint(requeued)
    last = root / facts.run / CHECKPOINTS / "last.ckpt"
    return last if last.exists() and read_checkpoint(last).global_step > facts.global_step else requeued


def changes(before: Namespace, now: Namespace) -> Iterator[str]:
    """A line for each setting of a run that is not what it was."""
    was, is_now = _settings(before), _settings(now)
    if is_now["data.sha256"] == was["data.sha256"]:  # the same text, by whatever name
        del is_now["data.text"]
    del is_now["data.alphabet"], is_now["trainer.default_root_dir"]  # which cannot change
    for name, value in is_now.items():
        if value != was[name]:
            moved = ", so the schedule ends elsewhere" if name == "model.lr_decay_iters" else ""
            yield f"{name} is {value}, was {was[name]}{moved}"


def _settings(config: Namespace) -> dict[str, Any]:
    groups = {group: vars(config[group]) for group in ("trainer", "model", "data")}
    settings = {f"{group}.{name}": value for group, values in groups.items() for name, value in values.items()}
    return {"seed_everything": config.seed_everything, **settings}
