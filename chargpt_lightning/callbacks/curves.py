"""curves.png of a run."""

import logging
from pathlib import Path

import lightning as L
from lightning.pytorch.callbacks import Checkpoint

from chargpt_lightning.loggers.csv_logger import History
from chargpt_lightning.utils.plotting import draw, save_figure

log = logging.getLogger(__name__)


class Curves(Checkpoint):
    """Draws losses and learning rates as curves.png in the run's directory, again at each evaluation.

    It is a Checkpoint because Lightning runs these last, so that the run is saved before it is drawn.
    """

    def __init__(self) -> None:
        self._failed = False

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draws the rows of metrics.csv so far."""
        if trainer.is_global_zero and not trainer.sanity_checking and isinstance(history := trainer.logger, History):
            history.save()
            self._draw(Path(history.save_dir))

    def _draw(self, run: Path) -> None:
        try:
            save_figure(draw([run]), run / "curves.png")
        except Exception as error:  # a run does not end because of its picture
            if not self._failed:
                log.warning("curves.png is not drawn: %s", error)
            self._failed = True
