"""Lightning's Trainer as a run has it: what is always there, what is refused, who holds the run's directory."""

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
from jsonargparse import ArgumentParser, Namespace
from lightning.pytorch.loggers import Logger

from chargpt_lightning.callbacks.count_updates import CountUpdates
from chargpt_lightning.callbacks.curves import Curves
from chargpt_lightning.callbacks.evaluation import EvaluateAtBothEnds, Report
from chargpt_lightning.callbacks.graceful_stop import StopSafely
from chargpt_lightning.callbacks.model_checkpoint import BestAndLast, HistoryInCheckpoints, last_checkpoint
from chargpt_lightning.callbacks.progress_bar import StepBar
from chargpt_lightning.callbacks.samples import Samples, takes_text
from chargpt_lightning.callbacks.throughput import Speed
from chargpt_lightning.checkpoints.io import AtomicCheckpointIO
from chargpt_lightning.loggers.csv_logger import History
from chargpt_lightning.loggers.tensorboard import TensorBoard
from chargpt_lightning.loggers.wandb import Wandb
from chargpt_lightning.sampling import SampleConfig
from chargpt_lightning.trainer.resume import Origin
from chargpt_lightning.trainer.validation import listed, other_loggers
from chargpt_lightning.utils.errors import ConfigError
from chargpt_lightning.utils.plotting import can_draw
from chargpt_lightning.utils.signals import Stopped

log = logging.getLogger(__name__)


def settings_of_a_run(trainer: Any, origin: Origin | None, sampling: SampleConfig) -> dict[str, Any]:
    """The user's loggers, callbacks and plugins, and ours beside them.

    Args:
        trainer: The Trainer's arguments as the user gave them.
        origin: The checkpoint that it starts from; None for a new run.
        sampling: How samples are drawn for loggers that take text.

    Raises:
        ConfigError: If there is to be no logger.
    """
    loggers = _loggers(trainer, origin)
    samples = [Samples(sampling)] if any(map(takes_text, loggers)) else []
    return {
        "logger": loggers,
        "callbacks": [*_callbacks(trainer, origin), *samples],
        "plugins": [*listed(trainer.plugins), AtomicCheckpointIO()],
        "enable_checkpointing": True,  # otherwise StopSafely could not be one of the callbacks
    }


def _loggers(trainer: Any, origin: Origin | None) -> list[Logger]:
    """A metrics.csv always, other loggers beside it."""
    if trainer.logger is False:
        raise ConfigError("trainer.logger (False) must not be off, because a run's directory is the logger's")
    run, branches = (origin.run, origin.branches) if origin else (None, False)
    return [History(Path(trainer.default_root_dir), run, branches), *other_loggers(trainer)]


def _callbacks(trainer: Any, origin: Origin | None) -> list[L.Callback]:
    """The user's, then those that every run has unless it is switched off."""
    callbacks = listed(trainer.callbacks)
    if trainer.enable_progress_bar is not False:
        callbacks.append(StepBar())
    if trainer.enable_checkpointing is not False:
        branch = (origin.path, origin.run) if origin and origin.branches else (None, None)
        callbacks.append(BestAndLast(*branch))
    if can_draw():
        callbacks.append(Curves())
    return [*callbacks, EvaluateAtBothEnds(), Speed(), Report(), HistoryInCheckpoints(), CountUpdates(), StopSafely()]


def count_devices(trainer: Namespace) -> int:
    """How many devices a Trainer with these arguments trains on, over all nodes.

    Only a Trainer knows: `auto`, torchrun and SLURM take the number from the machine.

    Raises:
        ConfigError: If there is no such Trainer.
    """
    asked = {name: trainer[name] for name in ("accelerator", "strategy", "devices", "num_nodes", "plugins")}
    nothing = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(L.Trainer, "trainer")
    with one_line_errors():
        return parser.instantiate(parser.parse_object({"trainer": asked | nothing})).trainer.world_size


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Makes a ConfigError of what Lightning says of an unknown accelerator or strategy, or of devices below 1."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise ConfigError(f"trainer: {error}") from error


@contextmanager
def run_held(trainer: L.Trainer, step: int) -> Iterator[None]:
    """Holds the run's directory while it is trained; if this device fails, so do the others.

    Args:
        trainer: As `settings_of_a_run` had it made.
        step: The update that it starts at.

    Raises:
        ConfigError: If a figure is no longer finite; it names the last good checkpoint.
    """
    history = trainer.logger if isinstance(trainer.logger, History) else None  # a dry run has none
    try:
        if history is not None:
            log.info("run: %s", history.save_dir)
            _lead(trainer.loggers, Path(history.save_dir), step)
        yield
    except FloatingPointError as error:
        if not trainer.is_global_zero:
            raise Stopped(1) from error  # the first device says it
        raise ConfigError(f"{error}; the last good checkpoint: {last_checkpoint(trainer)}") from error
    except BaseException:
        if trainer.strategy.launcher is not None:
            trainer.strategy.launcher.kill(getattr(signal, "SIGKILL", signal.SIGTERM))  # Windows has one way only
        raise
    finally:
        if history is not None:
            history.close()


def _lead(loggers: list[Logger], run: Path, step: int) -> None:
    for logger in loggers:
        if isinstance(logger, (TensorBoard, Wandb)):
            logger.follow(run, step)
