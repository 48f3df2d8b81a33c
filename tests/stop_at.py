"""A callback for processes of their own: sends one of the devices a signal within an update."""

import signal

from lightning.pytorch.callbacks import Callback


class StopAt(Callback):
    def __init__(self, step: int, signum: int, rank: int):
        self.step, self.signum, self.rank = step, signum, rank

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if (trainer.global_step, trainer.global_rank) == (self.step, self.rank):
            signal.raise_signal(self.signum)
