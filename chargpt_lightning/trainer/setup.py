"""What a run adds to Lightning's Trainer: loggers, callbacks and plugins, and its directory."""

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
from chargpt_lightning.callbacks.graceful_stop import GracefulStop, print_how_to_resume
from chargpt_lightning.callbacks.metrics_history import HistoryInCheckpoints
from chargpt_lightning.callbacks.model_checkpoint import BestAndLast, last_checkpoint
from chargpt_lightning.callbacks.progress_bar import StepBar
from chargpt_lightning.callbacks.samples import LogSamples, accepts_text
from chargpt_lightning.callbacks.throughput import Throughput
from chargpt_lightning.checkpoints.io import AtomicCheckpointIO
from chargpt_lightning.loggers.csv_logger import History
from chargpt_lightning.loggers.failures import start, tolerated
from chargpt_lightning.loggers.tensorboard import TensorBoard
from chargpt_lightning.loggers.wandb import Wandb
from chargpt_lightning.sampling.config import SampleConfig
from chargpt_lightning.trainer.resume import Origin
from chargpt_lightning.trainer.validation import listed, other_loggers
from chargpt_lightning.utils.errors import ConfigError
from chargpt_lightning.utils.plotting import can_draw
from chargpt_lightning.utils.signals import Stopped

log = logging.getLogger(__name__)


def trainer_arguments(trainer: Any, origin: Origin | None, sampling: SampleConfig) -> dict[str, Any]:
    """Returns the loggers, callbacks and plugins of a run: the user's and those of every run.

    Args:
        trainer: The Trainer's arguments as the user gave them.
        origin: The checkpoint that the run starts from; None for a new run.
        sampling: How samples are drawn for loggers that accept text.

    Raises:
        ConfigError: If loggers are turned off.
    """
    loggers = _loggers(trainer, origin)
    samples = [LogSamples(sampling)] if any(map(accepts_text, loggers)) else []
    return {
        "logger": loggers,
        "callbacks": [*_callbacks(trainer, origin), *samples],
        "plugins": [*listed(trainer.plugins), AtomicCheckpointIO()],
        "enable_checkpointing": True,  # otherwise GracefulStop could not be one of the callbacks
    }


def _loggers(trainer: Any, origin: Origin | None) -> list[Logger]:
    """metrics.csv, and the loggers that the user asks for."""
    if trainer.logger is False:
        raise ConfigError("trainer.logger (False) must not be turned off, because metrics.csv is part of every run")
    run, branches = (origin.run, origin.branches) if origin else (None, False)
    return [History(Path(trainer.default_root_dir), run, branches), *map(tolerated, other_loggers(trainer))]


def _callbacks(trainer: Any, origin: Origin | None) -> list[L.Callback]:
    """The user's callbacks, then those of every run."""
    callbacks = listed(trainer.callbacks)
    if trainer.enable_progress_bar is not False:
        callbacks.append(StepBar())
    if trainer.enable_checkpointing is not False:
        branch = (origin.path, origin.run) if origin and origin.branches else (None, None)
        callbacks.append(BestAndLast(*branch))
    if can_draw():
        callbacks.append(Curves())
    return [
        *callbacks,
        EvaluateAtBothEnds(),
        Throughput(),
        Report(),
        HistoryInCheckpoints(),
        CountUpdates(),
        GracefulStop(),
    ]


def count_devices(trainer: Namespace) -> int:
    """Returns how many devices a Trainer with these arguments trains on, over all nodes.

    It makes a Trainer to find out, because `auto`, torchrun and SLURM depend on the machine.

    Raises:
        ConfigError: If there cannot be such a Trainer.
    """
    asked = {name: trainer[name] for name in ("accelerator", "strategy", "devices", "num_nodes", "plugins")}
    nothing = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(L.Trainer, "trainer")
    with config_errors():
        return parser.instantiate(parser.parse_object({"trainer": asked | nothing})).trainer.world_size


@contextmanager
def config_errors() -> Iterator[None]:
    """Turns Lightning's errors about accelerators, strategies, devices and missing packages into ConfigErrors."""
    try:
        yield
    except (ImportError, MemoryError, OverflowError, TypeError, ValueError) as error:
        raise ConfigError(f"trainer: {str(error) or 'out of memory'}") from error


@contextmanager
def locked_run(trainer: L.Trainer, step: int) -> Iterator[None]:
    """Locks the run's directory in the context, and stops the other devices if this one fails.

    Args:
        trainer: Made with `trainer_arguments`.
        step: The update that training starts at.

    Raises:
        ConfigError: If another process is training the run, or if a figure becomes infinite or not a number; the error
            names the last good checkpoint, and what to try.
    """
    history = trainer.logger if isinstance(trainer.logger, History) else None  # None in a dry run
    try:
        if history is not None:
            history.claim()
            log.info("run: %s", history.save_dir)
            _follow_run(trainer.loggers, Path(history.save_dir), step)
            start(trainer.loggers)
        yield
    except FloatingPointError as error:
        if not trainer.is_global_zero:
            raise Stopped(1) from error  # the first device prints it
        last = last_checkpoint(trainer) or "none, because none was saved yet"
        raise ConfigError(f"{error}; the last good checkpoint: {last}{_advice(trainer)}") from error
    except BaseException as error:
        if isinstance(error, (OSError, MemoryError, RuntimeError)):  # a full disk, or no memory
            print_how_to_resume(trainer)
        if trainer.strategy.launcher is not None:
            trainer.strategy.launcher.kill(getattr(signal, "SIGKILL", signal.SIGTERM))  # Windows has no SIGKILL
        raise
    finally:
        if history is not None:
            history.close()


def _advice(trainer: L.Trainer) -> str:
    """Names flags that can keep a figure finite; before the first update, only the precision has an effect."""
    flags = []
    if trainer.global_step > 0:
        flags.append("a lower --model.learning_rate")
        if trainer.lightning_module.hparams["optimizer"] == "muon":
            flags.append("a lower --model.muon_learning_rate")
        if not trainer.gradient_clip_val:
            flags.append("--trainer.gradient_clip_val 1.0")
    if trainer.precision not in ("32-true", "64-true"):
        flags.append("--trainer.precision 32-true")
    return f"; try {' or '.join(flags)}" if flags else ""


def _follow_run(loggers: list[Logger], run: Path, step: int) -> None:
    for logger in loggers:
        if isinstance(logger, (TensorBoard, Wandb)):
            logger.follow(run, step)
