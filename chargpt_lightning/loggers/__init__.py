"""Loggers of a run's metrics."""

from chargpt_lightning.loggers.tensorboard import TensorBoard
from chargpt_lightning.loggers.wandb import Wandb

__all__ = ["TensorBoard", "Wandb"]
