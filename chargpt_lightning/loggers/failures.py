"""Starts loggers, and turns their later failures into a warning, because metrics.csv has all metrics."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from weakref import WeakSet

from lightning.pytorch.loggers import Logger, WandbLogger

from chargpt_lightning.utils.errors import ConfigError

log = logging.getLogger(__name__)

METHODS = ("log_hyperparams", "log_graph", "log_metrics", "save", "after_save_checkpoint", "finalize")
_failed: WeakSet[Logger] = WeakSet()


@contextmanager
def failures_warned(logger: Logger) -> Iterator[None]:
    """Turns an exception in the context into a warning, once for each logger."""
    try:
        yield
    except Exception as error:
        if logger not in _failed:
            message = " ".join(str(error).split())
            log.warning("trainer.logger (%s) failed, the run continues without it: %s", type(logger).__name__, message)
        _failed.add(logger)


def start(loggers: list[Logger]) -> None:
    """Starts loggers, W&B first as Lightning does.

    Raises:
        ConfigError: If one cannot be started: before training, its user can still correct that.
    """
    for logger in sorted(loggers, key=lambda logger: not isinstance(logger, WandbLogger)):
        try:
            getattr(logger, "experiment", None)
        except ConfigError:
            raise
        except Exception as error:
            name, message = type(logger).__name__, " ".join(str(error).split())
            raise ConfigError(f"trainer.logger ({name}) must be able to log, but: {message}") from error


def tolerated(logger: Logger) -> Logger:
    """Returns the logger, with methods that warn instead of failing."""
    for name in METHODS:
        setattr(logger, name, partial(_call, logger, getattr(logger, name)))
    return logger


def _call(logger: Logger, method: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    with failures_warned(logger):
        method(*args, **kwargs)
