"""TensorBoard and W&B as loggers of a run: what they write lies in its directory, and goes on when it goes on."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from textwrap import indent
from typing import Any

import lightning as L
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger

from chargpt_lightning.errors import ConfigError, require_package
from chargpt_lightning.sampling import SampleConfig, continue_prompt
from chargpt_lightning.vocab import CharVocab

PACKAGES = {"TensorBoard": "tensorboard", "Wandb": "wandb"}
MOST_CHARACTERS = 200  # a few lines, for an evaluation to stay short


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


class TensorBoard(TensorBoardLogger):
    """Lightning's TensorBoardLogger, with the event file in the run's directory.

    `tensorboard --logdir runs` then shows all runs below `runs`, each by its path.
    """

    def __init__(self) -> None:
        super().__init__(save_dir="", name="", version="", default_hp_metric=False)

    def follow(self, run: Path, step: int) -> None:
        """Writes into a run's directory, where TensorBoard is to forget what a stopped run saw after this step."""
        super().__init__(run, name="", version="", default_hp_metric=False, purge_step=step + 1 if step else None)


class Wandb(WandbLogger):
    """Lightning's WandbLogger, with W&B's files in the run's directory.

    Args:
        **kwargs: As Lightning has them.

    Raises:
        ConfigError: When the run starts, if nobody is logged in, W&B cannot be reached, or refuses an argument.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._given = kwargs

    def follow(self, run: Path, step: int) -> None:
        """Writes into a run's directory, and resumes the W&B run whose files are there."""
        given = self._given
        name = given.get("name") or f"{run.parent.name}/{run.name}"
        super().__init__(**given | {"save_dir": run, "name": name, "id": given.get("id") or _wandb_id(run)})

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """W&B's run."""
        from wandb.errors import Error

        getattr(self, "_wandb_init", {}).pop("anonymous", None)  # W&B warns whenever it is given, even as None
        try:
            return super().experiment
        except (Error, ValueError) as error:  # a ValueError is about a setting of W&B's
            raise ConfigError(f"trainer.logger (Wandb) must be able to log, but: {error}") from error


def _wandb_id(run: Path) -> str | None:
    """The id of the W&B run in a run's directory, whose folder is called like `run-20260131_235959-ID`, or None."""
    folders = sorted(path.name for path in run.glob("wandb/*run-*_*-*"))
    return folders[-1].split("run-", 1)[1].split("-", 1)[1] if folders else None


def takes_text(logger: object) -> bool:
    """Whether a logger can show samples."""
    return isinstance(logger, (TensorBoardLogger, WandbLogger))


class Samples(Callback):
    """Logs at each evaluation how the network continues the prompt by now, where a logger takes text.

    Args:
        sampling: How it is drawn, the first sample of `predict` for one; of the characters at most MOST_CHARACTERS.
    """

    def __init__(self, sampling: SampleConfig) -> None:
        self._sampling = replace(sampling, max_new_tokens=min(sampling.max_new_tokens, MOST_CHARACTERS))

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draws with the weights that are evaluated and saved: WeightAveraging has swapped its averages in by now.

        On every device, because a sharded network runs on all of them at once.
        """
        prompt = trainer.datamodule.prompt_ids.to(pl_module.device)  # type: ignore[attr-defined]
        (ids,) = continue_prompt(pl_module.gpt, prompt, [0], self._sampling)  # type: ignore[arg-type]
        text = CharVocab(pl_module.hparams["alphabet"]).decode(ids)
        for logger in filter(takes_text, trainer.loggers):
            _log_text(logger, text, trainer.global_step)


def _log_text(logger: Any, text: str, step: int) -> None:
    if isinstance(logger, WandbLogger):
        logger.log_text("sample", columns=["step", "text"], data=[[str(step), text]], step=step)
    else:  # TensorBoard shows Markdown: as code the text stays as it is
        logger.experiment.add_text("sample", indent(text, "    ", lambda line: True), step)
