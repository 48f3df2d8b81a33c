"""Lightning's own callbacks in a run that is one epoch without end: what cannot work is refused."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from chargpt_lightning.utils.errors import ConfigError, require_at_least_one, require_package
from chargpt_lightning.utils.run_dir import is_run

PACKAGES = {"TensorBoard": "tensorboard", "Wandb": "wandb"}


LIGHTNINGS = "lightning.pytorch.callbacks."
ONE_EPOCH = "training is one epoch without end"
AFTER_EVALUATIONS = "a run can go on exactly from what is saved after an evaluation: --trainer.val_check_interval"
INSTEAD = {
    "BatchSizeFinder": "a run that goes on would not find the same size again: --data.batch_size sets it",
    "OnExceptionCheckpoint": "every stop is saved as last.ckpt, and --trainer.max_time stops in time",
    "StochasticWeightAveraging": f"it counts epochs, and {ONE_EPOCH}: EMAWeightAveraging counts updates",
    "Timer": "Lightning cannot write it into config.yaml: --trainer.max_time does the same",
}
MONITORED = ("val/loss", "val/perplexity", "train_eval/loss", "step")
UNSET = (  # callback, argument, what leaves it unset, why it must be
    ("EarlyStopping", "check_on_train_epoch_end", (None, False), ONE_EPOCH),
    ("LearningRateFinder", "attr_name", ("", "learning_rate"), "it is model.learning_rate that it finds"),
    ("LearningRateFinder", "update_attr", (True,), "what it finds would not be used"),
    ("ModelCheckpoint", "every_n_epochs", (None, 1), ONE_EPOCH),
    ("ModelCheckpoint", "every_n_train_steps", (None, 0), AFTER_EVALUATIONS),
    ("ModelCheckpoint", "train_time_interval", (None,), AFTER_EVALUATIONS),
)


def listed(given: Any) -> list[Any]:
    """None, one or several, as the trainer takes loggers, callbacks and plugins."""
    if given is None:
        return []
    return list(given) if isinstance(given, list) else [given]


def require_callbacks_that_work(callbacks: Any) -> None:
    """Checks the callbacks that a user names, as the parser has them.

    Raises:
        ConfigError: If one would have no effect here, would break a run, or would keep it from going on exactly.
    """
    for name, given in _lightnings(callbacks):
        if name in INSTEAD:
            raise ConfigError(f"trainer.callbacks ({name}) must not be used, because {INSTEAD[name]}")
        if given.get("monitor") not in (None, *MONITORED):
            raise ConfigError(f"{name}.monitor ({given.monitor}) must be one of {', '.join(MONITORED)}")
        for callback, argument, unset, reason in UNSET:
            if name == callback and given[argument] not in unset:
                raise ConfigError(f"{name}.{argument} ({given[argument]}) must not be given, because {reason}")
        if name == "ModelCheckpoint":
            _require_own_files(given)


def _require_own_files(checkpoint: Namespace) -> None:
    if checkpoint.dirpath is not None:
        _require_no_run(Path(checkpoint.dirpath))
        return
    for argument, taken in (("filename", ("best", "last")), ("save_last", (True, "link"))):
        if (value := checkpoint[argument]) in taken:
            raise ConfigError(
                f"ModelCheckpoint.{argument} ({value}) must be another, or dirpath be given, "
                "because best.ckpt and last.ckpt are kept anyway"
            )


def _require_no_run(directory: Path) -> None:
    for run in (directory, directory.parent):
        if is_run(run):
            raise ConfigError(
                f"ModelCheckpoint.dirpath ({directory}) must not be in the directory of a run ({run}), because it "
                "could replace that run's files; without dirpath, checkpoints go into the directory of their own run"
            )


def settle_callbacks(fit: Namespace, goes_on: bool) -> None:
    """Puts GradientAccumulationScheduler as `accumulate_grad_batches`, which is what it comes to in one epoch.

    Args:
        fit: All settings of `fit`.
        goes_on: Whether the run has begun already.

    Raises:
        ConfigError: If it is to change with the epochs, or if another callback cannot do its work in this run.
    """
    for name, _ in _lightnings(fit.trainer.callbacks):
        if name == "LearningRateFinder":
            _require_a_rate_to_find(fit.model.optimizer, goes_on)
        if name.endswith("WeightAveraging"):
            _require_a_whole_network(name, fit.trainer.strategy)
    fit.trainer.accumulate_grad_batches = accumulated_batches(fit.trainer)
    fit.trainer.callbacks = without(fit.trainer.callbacks, "GradientAccumulationScheduler")


def accumulated_batches(trainer: Namespace) -> int:
    """Batches per update, as `accumulate_grad_batches` or a GradientAccumulationScheduler says.

    Raises:
        ConfigError: If they say different numbers, or the scheduler several.
    """
    for name, given in _lightnings(trainer.callbacks):
        if name == "GradientAccumulationScheduler":
            return _batches(given.scheduling, trainer.accumulate_grad_batches)
    return int(trainer.accumulate_grad_batches)


def _require_a_rate_to_find(optimizer: str, goes_on: bool) -> None:
    for refused, reason in (
        (goes_on, "a run that goes on keeps the rate that it began with"),
        (optimizer == "muon", "it tries one rate for all weights, and Muon's are not AdamW's"),
    ):
        if refused:
            raise ConfigError(f"trainer.callbacks (LearningRateFinder) must not be used, because {reason}")


def _require_a_whole_network(name: str, strategy: Any) -> None:
    if isinstance(strategy, Namespace) and strategy.class_path.endswith(".ModelParallelStrategy"):
        raise ConfigError(
            f"trainer.callbacks ({name}) must not be used with ModelParallelStrategy, "
            "because it averages a whole network, and this one is sharded"
        )


def _batches(scheduling: dict[int, int], said: int) -> int:
    if scheduling.keys() != {0}:
        raise ConfigError(
            f"GradientAccumulationScheduler.scheduling ({scheduling}) must be {{0: n}}, because {ONE_EPOCH}"
        )
    batches = scheduling[0]
    require_at_least_one(scheduling=batches)
    if said not in (1, batches):
        raise ConfigError(
            f"trainer.accumulate_grad_batches ({said}) must be {batches}, as the scheduler says, or not be given"
        )
    return batches


def without(callbacks: Any, name: str) -> list[Namespace] | None:
    """The callbacks as the parser has them, but for Lightning's of that name; None if there is no other."""
    return [callback for callback in listed(callbacks) if _name(callback) != name] or None


def _lightnings(callbacks: Any) -> Iterator[tuple[str, Any]]:
    for callback in listed(callbacks):
        if name := _name(callback):
            yield name, callback.get("init_args", {})


def _name(callback: Namespace) -> str:
    """Its class, if it is one of Lightning's."""
    path: str = callback.class_path
    return path.rpartition(".")[2] if path.startswith(LIGHTNINGS) else ""


def require_packages(loggers: Iterable[Any]) -> None:
    """Checks what loggers need that are about to be made, be they ours or Lightning's own.

    Args:
        loggers: What jsonargparse makes them of.

    Raises:
        ConfigError: If a package is missing.
    """
    for logger in loggers:
        name = logger.class_path.rsplit(".", 1)[1]
        if package := PACKAGES.get(name.removesuffix("Logger")):
            require_package("trainer.logger", name, package)


def other_loggers(trainer: Any) -> list[Any]:
    """The loggers that the user asks for beside metrics.csv."""
    return [] if isinstance(trainer.logger, bool) else listed(trainer.logger)


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
    require_packages(other_loggers(trainer))
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
