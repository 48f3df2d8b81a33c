"""Callbacks for tests that train in subprocesses: they stop one of the devices, or break the weights."""

import math
import signal

import torch
from lightning.pytorch.callbacks import Callback


class StopAt(Callback):
    """Sends one of the devices a signal within an update."""

    def __init__(self, step: int, signum: int, rank: int):
        self.step, self.signum, self.rank = step, signum, rank

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if (trainer.global_step, trainer.global_rank) == (self.step, self.rank):
            signal.raise_signal(self.signum)


class ShouldStopAt(Callback):
    """Sets `trainer.should_stop`, but on one device only."""

    def __init__(self, step: int, rank: int):
        self.step, self.rank = step, rank

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if (trainer.global_step, trainer.global_rank) == (self.step, self.rank):
            trainer.should_stop = True


class Unsavable(Callback):
    """Has a state that a checkpoint cannot contain after an update."""

    def __init__(self):
        self.state = {"seen": set()}

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.state["seen"].add((trainer.global_step, b"bytes"))

    def state_dict(self):
        return self.state


class BreakWeights(Callback):
    """Makes weights infinite after an evaluation, before they are saved."""

    @torch.no_grad()
    def on_validation_end(self, trainer, pl_module):
        if not trainer.sanity_checking:
            # The optimizer's, because the network's own may be unsharded copies.
            trainer.optimizers[0].param_groups[0]["params"][0].fill_(math.inf)
