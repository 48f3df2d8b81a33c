"""Where a run's figures go."""

from chargpt_lightning.loggers.tensorboard import TensorBoard
from chargpt_lightning.loggers.wandb import Wandb

__all__ = ["TensorBoard", "Wandb"]
