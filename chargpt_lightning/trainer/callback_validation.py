"""Refuses callbacks of Lightning's that cannot work in a run, in which training is a single endless epoch."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from chargpt_lightning.trainer.validation import ONE_EPOCH, is_sharded, listed
from chargpt_lightning.utils.errors import ConfigError, require_positive
from chargpt_lightning.utils.metrics import TRAIN_EVAL_LOSS, VAL_LOSS, VAL_PERPLEXITY
from chargpt_lightning.utils.run_dir import is_run

LIGHTNING_CALLBACKS = "lightning.pytorch.callbacks."
AFTER_EVALUATIONS = "only a checkpoint saved after an evaluation resumes exactly: use --trainer.val_check_interval"
INSTEAD = {
    "BatchSizeFinder": "a resumed run might find another size: use --data.batch_size",
    "OnExceptionCheckpoint": "every stop is saved as last.ckpt anyway",
    "StochasticWeightAveraging": f"it counts epochs, and {ONE_EPOCH}: use EMAWeightAveraging, which counts updates",
    "Timer": "Lightning cannot write it into config.yaml: use --trainer.max_time, which does the same",
}
MONITORED = (VAL_LOSS, VAL_PERPLEXITY, TRAIN_EVAL_LOSS, "step")
UNSET = (  # callback, argument, values that leave it unset, why it must be unset
    ("EarlyStopping", "check_on_train_epoch_end", (None, False), ONE_EPOCH),
    ("LearningRateFinder", "attr_name", ("", "learning_rate"), "it sets model.learning_rate"),
    ("LearningRateFinder", "update_attr", (True,), "its result would not be used"),
    ("ModelCheckpoint", "every_n_epochs", (None, 1), ONE_EPOCH),
    ("ModelCheckpoint", "every_n_train_steps", (None, 0), AFTER_EVALUATIONS),
    ("ModelCheckpoint", "train_time_interval", (None,), AFTER_EVALUATIONS),
)


def require_callbacks_that_work(callbacks: Any) -> None:
    """Checks the user's callbacks, as parsed.

    Raises:
        ConfigError: If one would have no effect, break a run, or prevent it from being resumed exactly.
    """
    for name, given in _of_lightning(callbacks):
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
                f"ModelCheckpoint.{argument} ({value}) must not be used without dirpath, "
                "because every run has its own best.ckpt and last.ckpt"
            )


def _require_no_run(directory: Path) -> None:
    for run in (directory, directory.parent):
        if is_run(run):
            raise ConfigError(
                f"ModelCheckpoint.dirpath ({directory}) must not be in the directory of a run ({run}), because it "
                "could replace that run's files; without dirpath, each run saves checkpoints in its own directory"
            )


def prepare_callbacks(fit: Namespace, resumes: bool) -> None:
    """Replaces a GradientAccumulationScheduler by `accumulate_grad_batches`, the same thing in one epoch.

    Args:
        fit: All settings of `fit`; changed in place.
        resumes: Whether the run is resumed.

    Raises:
        ConfigError: If the scheduler changes with the epochs, or another callback cannot work in this run.
    """
    for name, _ in _of_lightning(fit.trainer.callbacks):
        if name == "LearningRateFinder":
            _require_searchable_rate(fit.model.optimizer, resumes)
        if name.endswith("WeightAveraging"):
            _require_unsharded(name, fit.trainer.strategy)
    fit.trainer.accumulate_grad_batches = accumulated_batches(fit.trainer)
    fit.trainer.callbacks = without(fit.trainer.callbacks, "GradientAccumulationScheduler")


def accumulated_batches(trainer: Namespace) -> int:
    """Returns batches per update, from `accumulate_grad_batches` or a GradientAccumulationScheduler.

    Raises:
        ConfigError: If they contradict each other, or the scheduler has several numbers.
    """
    for name, given in _of_lightning(trainer.callbacks):
        if name == "GradientAccumulationScheduler":
            return _batches(given.scheduling, trainer.accumulate_grad_batches)
    return int(trainer.accumulate_grad_batches)


def with_accumulation(trainer: Namespace) -> Namespace:
    """Returns the Trainer's arguments with the batches per update of a GradientAccumulationScheduler filled in."""
    trainer = trainer.clone()
    trainer.accumulate_grad_batches = accumulated_batches(trainer)
    return trainer


def _require_searchable_rate(optimizer: str, resumes: bool) -> None:
    for refused, reason in (
        (resumes, "a resumed run keeps the rate that it started with"),
        (optimizer == "muon", "it tries one rate for all weights, but Muon and AdamW have different ones"),
    ):
        if refused:
            raise ConfigError(f"trainer.callbacks (LearningRateFinder) must not be used, because {reason}")


def _require_unsharded(name: str, strategy: Any) -> None:
    if is_sharded(strategy):
        raise ConfigError(
            f"trainer.callbacks ({name}) must not be used with ModelParallelStrategy, "
            "because it cannot average a sharded network"
        )


def _batches(scheduling: dict[int, int], accumulate: int) -> int:
    if scheduling.keys() != {0}:
        raise ConfigError(
            f"GradientAccumulationScheduler.scheduling ({scheduling}) must be {{0: n}}, because {ONE_EPOCH}"
        )
    batches = scheduling[0]
    require_positive(scheduling=batches)
    if accumulate not in (1, batches):
        raise ConfigError(
            f"trainer.accumulate_grad_batches ({accumulate}) must be {batches}, as in the scheduler, or not be given"
        )
    return batches


def without(callbacks: Any, name: str) -> list[Namespace] | None:
    """Returns the parsed callbacks without Lightning's of this name; None if none are left."""
    return [callback for callback in listed(callbacks) if _name(callback) != name] or None


def _of_lightning(callbacks: Any) -> Iterator[tuple[str, Any]]:
    for callback in listed(callbacks):
        if name := _name(callback):
            yield name, callback.get("init_args", {})


def _name(callback: Namespace) -> str:
    """The name of its class if it is one of Lightning's, otherwise empty."""
    path: str = callback.class_path
    return path.rpartition(".")[2] if path.startswith(LIGHTNING_CALLBACKS) else ""
