"""W&B as a logger of a run: its files are in the run's directory, and a resumed run resumes them."""

from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import WandbLogger

from chargpt_lightning.utils.errors import ConfigError


class Wandb(WandbLogger):
    """Lightning's WandbLogger, with W&B's files in the run's directory.

    Args:
        **kwargs: Arguments of Lightning's WandbLogger.

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
    """Returns the id of the latest W&B run in a run's directory, or None; W&B's file is `run-TIME-ID/run-ID.wandb`.

    The name of the folder is not enough: of two that start within a second, the second has a number after the id.
    """
    files = sorted(run.glob("wandb/*run-*_*-*/run-*.wandb"))
    return files[-1].stem.removeprefix("run-") if files else None
