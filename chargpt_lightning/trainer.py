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

from chargpt_lightning.callbacks import EvaluateAtBothEnds, Report, StepBar
from chargpt_lightning.checkpoints import WholeFileIO
from chargpt_lightning.curves import Curves, can_draw
from chargpt_lightning.errors import ConfigError, require_at_least_one
from chargpt_lightning.history import History, HistoryInCheckpoints
from chargpt_lightning.keeping import BestAndLast, last_checkpoint
from chargpt_lightning.loggers import Samples, TensorBoard, Wandb, require_packages, takes_text
from chargpt_lightning.resuming import Origin
from chargpt_lightning.sampling import SampleConfig
from chargpt_lightning.speed import Speed
from chargpt_lightning.stopping import Stopped, StopSafely
from chargpt_lightning.toolbox import listed
from chargpt_lightning.updates import CountUpdates

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
        "plugins": [*listed(trainer.plugins), WholeFileIO()],
        "enable_checkpointing": True,  # otherwise StopSafely could not be one of the callbacks
    }


def _loggers(trainer: Any, origin: Origin | None) -> list[Logger]:
    """A metrics.csv always, other loggers beside it."""
    if trainer.logger is False:
        raise ConfigError("trainer.logger (False) must not be off, because a run's directory is the logger's")
    run, branches = (origin.run, origin.branches) if origin else (None, False)
    return [History(Path(trainer.default_root_dir), run, branches), *_other_loggers(trainer)]


def _other_loggers(trainer: Any) -> list[Any]:
    return [] if isinstance(trainer.logger, bool) else listed(trainer.logger)


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


def require_sound(trainer: Any) -> None:
    """Checks what Lightning leaves unchecked.

    Raises:
        ConfigError: If a run with these arguments would go wrong, or never end.
    """
    require_at_least_one(accumulate_grad_batches=trainer.accumulate_grad_batches)
    if isinstance(trainer.val_check_interval, int):  # Lightning checks the other ways to give it
        require_at_least_one(val_check_interval=trainer.val_check_interval)
    for name in ("gradient_clip_val", "log_every_n_steps"):
        if trainer[name] is not None and not trainer[name] >= 0:
            raise ConfigError(f"{name} ({trainer[name]}) must be at least 0")
    _require_whole_batches(trainer.overfit_batches, trainer.accumulate_grad_batches)
    _require_sharding_that_we_have(trainer.strategy)
    require_packages(_other_loggers(trainer))
    few = isinstance(trainer.limit_train_batches, int) and trainer.limit_train_batches  # 1.0 is all there are
    if trainer.max_steps == -1 and not any((trainer.max_time, few, trainer.overfit_batches, trainer.fast_dev_run)):
        raise ConfigError(
            "trainer.max_steps (-1) must be set, because the training windows never end; "
            "a recipe that sets it: --config shakespeare_char"
        )


def _require_whole_batches(repeated: float, accumulated: int) -> None:
    """Checks `overfit_batches`; its fractions would be of a training set that has an end."""
    if isinstance(repeated, float) and repeated != 0:
        raise ConfigError(f"trainer.overfit_batches ({repeated}) must be a number of batches, because they never end")
    if repeated < 0 or repeated % accumulated:
        raise ConfigError(
            f"trainer.overfit_batches ({repeated}) must be a multiple of accumulate_grad_batches ({accumulated})"
        )


def _require_sharding_that_we_have(strategy: Any) -> None:
    if not isinstance(strategy, Namespace) or not strategy.class_path.endswith(".ModelParallelStrategy"):
        return
    for name, value, reason in (
        ("tensor_parallel_size", 1, "the network is sharded by data_parallel_size only"),
        ("save_distributed_checkpoint", False, "a checkpoint is one file"),
    ):
        if (given := strategy.init_args[name]) != value:
            raise ConfigError(f"trainer.strategy.{name} ({given}) must be {value}, because {reason}")


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
