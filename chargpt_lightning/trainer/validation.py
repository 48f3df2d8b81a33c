"""Refuses settings of the Trainer that cannot work in a run.

Training is a single endless epoch, and evaluations are scheduled by steps.
"""

from collections.abc import Iterable
from typing import Any

import lightning as L
from jsonargparse import Namespace
from lightning.pytorch.strategies import ModelParallelStrategy

from chargpt_lightning.utils.errors import (
    MAX_PROCESSES,
    ConfigError,
    require_at_most,
    require_package,
    require_positive,
)

ONE_EPOCH = "training is a single endless epoch"
PACKAGES = {"TensorBoard": "tensorboard", "Wandb": "wandb"}  # by logger


def listed(given: Any) -> list[Any]:
    """Returns loggers, callbacks or plugins as a list; the Trainer accepts None, one or several."""
    if given is None:
        return []
    return list(given) if isinstance(given, list) else [given]


def is_sharded(strategy: Any) -> bool:
    """Whether a strategy, as parsed, shards the network over devices."""
    return isinstance(strategy, Namespace) and strategy.class_path.endswith(".ModelParallelStrategy")


def require_packages(loggers: Iterable[Any]) -> None:
    """Checks the packages that loggers need, this package's and Lightning's own.

    Args:
        loggers: As parsed, before they are instantiated.

    Raises:
        ConfigError: If a package is not installed.
    """
    for logger in loggers:
        name = logger.class_path.rsplit(".", 1)[1]
        if package := PACKAGES.get(name.removesuffix("Logger")):
            require_package("trainer.logger", name, package)


def other_loggers(trainer: Any) -> list[Any]:
    """Returns the loggers that the user asks for in addition to metrics.csv."""
    return [] if isinstance(trainer.logger, bool) else listed(trainer.logger)


def require_valid_trainer(trainer: Any) -> None:
    """Checks the Trainer's arguments where Lightning does not.

    Raises:
        ConfigError: If a run with these arguments would fail, or never end.
    """
    require_positive(**{"trainer.accumulate_grad_batches": trainer.accumulate_grad_batches})
    if str(trainer.devices).isdigit():
        require_at_most(MAX_PROCESSES, **{"trainer.devices": int(trainer.devices)})
    _require_valid_interval(trainer.val_check_interval)
    for name, least in (("gradient_clip_val", 0), ("log_every_n_steps", 0), ("num_sanity_val_steps", -1)):
        if trainer[name] is not None and not trainer[name] >= least:
            raise ConfigError(f"trainer.{name} ({trainer[name]}) must be at least {least}")
    _require_valid_overfit_batches(trainer.overfit_batches)
    _require_entire_updates(trainer)
    _require_supported_sharding(trainer.strategy)
    require_packages(other_loggers(trainer))
    _require_an_end(trainer)


def _require_valid_interval(interval: Any) -> None:
    if isinstance(interval, int):
        require_positive(**{"trainer.val_check_interval": interval})
    elif interval is not None:  # a time, or a fraction of an epoch
        raise ConfigError(
            f"trainer.val_check_interval ({interval}) must be a number of batches, because evaluations at times differ "
            "from run to run and could not be resumed exactly, and fractions need an epoch that ends"
        )


def _require_an_end(trainer: Any) -> None:
    """Checks what ends a run: its epochs end only if the user limits their batches."""
    limit = trainer.limit_train_batches
    if limit is not None and limit == 0:
        raise ConfigError(f"trainer.limit_train_batches ({limit}) must be at least 1")
    epochs_end = bool(trainer.overfit_batches) or isinstance(limit, int)  # 1.0 means all batches, which never end
    _require_no_endless_epochs(trainer, epochs_end)
    if trainer.min_steps is not None and 0 <= trainer.max_steps < trainer.min_steps:
        raise ConfigError(f"trainer.min_steps ({trainer.min_steps}) must be at most max_steps ({trainer.max_steps})")
    ends = (trainer.max_time, epochs_end and trainer.max_epochs != -1, trainer.fast_dev_run)
    if trainer.max_steps == -1 and not any(ends):
        raise ConfigError(
            "trainer.max_steps (-1) must be set, because the training windows never end; "
            "a recipe that sets it: --config shakespeare_char"
        )


def _require_no_endless_epochs(trainer: Any, epochs_end: bool) -> None:
    for name, unset, instead in (
        ("max_epochs", (None, -1), "max_steps"),
        ("min_epochs", (None, 0), "min_steps"),
        ("check_val_every_n_epoch", (None,), "val_check_interval, a number of batches"),
    ):
        if trainer[name] not in unset and not (name == "max_epochs" and epochs_end and trainer[name] > 0):
            raise ConfigError(
                f"trainer.{name} ({trainer[name]}) must not be given, because {ONE_EPOCH}: use --trainer.{instead}"
            )


def _require_valid_overfit_batches(repeated: float) -> None:
    """Checks `overfit_batches`, which cannot be a fraction of windows that never end."""
    if isinstance(repeated, float) and repeated != 0:
        raise ConfigError(
            f"trainer.overfit_batches ({repeated}) must be a number of batches, because training windows never end"
        )
    if repeated < 0:
        raise ConfigError(f"trainer.overfit_batches ({repeated}) must be at least 0")


def _require_entire_updates(trainer: Any) -> None:
    """Checks that neither an evaluation nor the end of an epoch falls within an update: it could not be resumed."""
    accumulated = trainer.accumulate_grad_batches
    for name in ("val_check_interval", "limit_train_batches", "overfit_batches"):
        batches = trainer[name]
        if isinstance(batches, int) and batches % accumulated:
            multiple = batches + accumulated - batches % accumulated
            raise ConfigError(
                f"trainer.{name} ({batches}) must be a multiple of accumulate_grad_batches ({accumulated}), because a "
                f"run resumes exactly only between updates: use {multiple}"
            )


def _require_supported_sharding(strategy: Any) -> None:
    if not is_sharded(strategy):
        return
    for name, value, reason in (
        ("tensor_parallel_size", 1, "the network is sharded by data_parallel_size only"),
        ("save_distributed_checkpoint", False, "a checkpoint is one file"),
    ):
        if (given := strategy.init_args[name]) != value:
            raise ConfigError(f"trainer.strategy.{name} ({given}) must be {value}, because {reason}")


def require_device_per_shard(strategy: Any, trainer: L.Trainer) -> None:
    """Checks that a sharded network has as many devices as shards.

    Args:
        strategy: The strategy as parsed.
        trainer: The Trainer that was made with it, unless it was made with another.

    Raises:
        ConfigError: If it has more devices, or fewer.
    """
    if not isinstance(trainer.strategy, ModelParallelStrategy) or not is_sharded(strategy):
        return
    devices, shards = trainer.world_size, strategy.init_args.data_parallel_size
    if (trainer.num_nodes if shards == "auto" else shards) != devices:
        raise ConfigError(
            f"trainer.strategy.data_parallel_size ({shards}) must be the number of devices ({devices}); "
            "for a network that is not sharded: --trainer.strategy auto"
        )
