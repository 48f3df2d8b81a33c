"""curves.png of a run."""

import logging
from pathlib import Path
from time import perf_counter

import lightning as L
from lightning.pytorch.callbacks import Checkpoint

from chargpt_lightning.loggers.csv_logger import History
from chargpt_lightning.utils.plotting import draw, save_figure
from chargpt_lightning.utils.signals import Stopped

log = logging.getLogger(__name__)

SHARE_OF_TIME = 0.01
FIRST_DRAWING_S = 1.0  # an estimate, which includes importing matplotlib


class Curves(Checkpoint):
    """Draws losses and learning rates as curves.png in the run's directory.

    It draws when training ends or is stopped and, before that, after those evaluations at which all drawings together
    take at most 1 % of the time, because training waits for them. It is a Checkpoint because Lightning runs these last,
    so that the run is saved before it is drawn.
    """

    def __init__(self) -> None:
        self._failed = False
        self._start_s = 0.0
        self._spent_s = 0.0  # on all drawings
        self._latest_s = FIRST_DRAWING_S

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Starts timing."""
        self._start_s = perf_counter()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draws the rows of metrics.csv so far, unless it would take too much of the time or training ends now."""
        allowed_s = SHARE_OF_TIME * (perf_counter() - self._start_s)
        is_between = not trainer.sanity_checking and not trainer.should_stop
        if is_between and self._spent_s + self._latest_s <= allowed_s:
            self._draw(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draws the complete run."""
        self._draw(trainer)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Draws a run that was stopped, or whose loss is no longer finite."""
        if isinstance(exception, Stopped | FloatingPointError):
            self._draw(trainer)

    def _draw(self, trainer: L.Trainer) -> None:
        if not trainer.is_global_zero or not isinstance(history := trainer.logger, History):
            return
        before_s = perf_counter()
        try:
            history.save()
            run = Path(history.save_dir)
            save_figure(draw([run]), run / "curves.png")
        except Exception as error:  # a run does not end because of its picture
            if not self._failed:
                log.warning("curves.png is not drawn: %s", error)
            self._failed = True
        self._latest_s = perf_counter() - before_s
        self._spent_s += self._latest_s
