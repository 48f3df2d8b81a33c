"""Refuses settings of the Trainer that cannot work in a run.

Training is a single endless epoch, and evaluations are scheduled by steps.
"""

from collections.abc import Iterable
from typing import Any

from jsonargparse import Namespace

from chargpt_lightning.utils.errors import ConfigError, require_package, require_positive

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
    if isinstance(trainer.val_check_interval, int):  # Lightning checks the other ways to give it
        require_positive(**{"trainer.val_check_interval": trainer.val_check_interval})
    for name in ("gradient_clip_val", "log_every_n_steps"):
        if trainer[name] is not None and not trainer[name] >= 0:
            raise ConfigError(f"trainer.{name} ({trainer[name]}) must be at least 0")
    _require_valid_overfit_batches(trainer.overfit_batches, trainer.accumulate_grad_batches)
    _require_supported_sharding(trainer.strategy)
    require_packages(other_loggers(trainer))
    few = isinstance(trainer.limit_train_batches, int) and trainer.limit_train_batches  # 1.0 means all, which never end
    if trainer.max_steps == -1 and not any((trainer.max_time, few, trainer.overfit_batches, trainer.fast_dev_run)):
        raise ConfigError(
            "trainer.max_steps (-1) must be set, because the training windows never end; "
            "a recipe that sets it: --config shakespeare_char"
        )


def _require_valid_overfit_batches(repeated: float, accumulated: int) -> None:
    """Checks `overfit_batches`, which cannot be a fraction of windows that never end."""
    if isinstance(repeated, float) and repeated != 0:
        raise ConfigError(
            f"trainer.overfit_batches ({repeated}) must be a number of batches, because training windows never end"
        )
    if repeated < 0 or repeated % accumulated:
        raise ConfigError(
            f"trainer.overfit_batches ({repeated}) must be a multiple of accumulate_grad_batches ({accumulated})"
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
