"""Stops a run early on signals and time limits: saves it first, then prints how to resume it."""

import logging
import os
import shlex
import signal
import sys
from functools import partial
from types import FrameType
from typing import Any, NoReturn

import lightning as L
import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.callbacks import Checkpoint
from torch import distributed

from chargpt_lightning.callbacks.count_updates import batches_of, is_evaluation_due
from chargpt_lightning.callbacks.model_checkpoint import last_checkpoint, save_now
from chargpt_lightning.utils.console import program_name
from chargpt_lightning.utils.errors import ConfigError
from chargpt_lightning.utils.run_dir import relative_to_cwd
from chargpt_lightning.utils.signals import SIGNAL_EXIT_BASE, Stopped, leave_closed_terminal, stop_now, stop_signals

log = logging.getLogger(__name__)


class GracefulStop(Checkpoint):
    """Saves and stops a run after the current update, on a signal or on `trainer.should_stop` (max_time).

    It is a Checkpoint because Lightning runs these last, so that what other callbacks do after an update is saved too.
    A run resumes exactly from its state after an update, and after the evaluation that is due then.
    """

    def __init__(self) -> None:
        self._signum = 0  # the signal that was received, or 0
        self._is_first_device = False
        self._requeue: Any = None  # Lightning's handler of SLURM's signal
        self._requeue_requested = False
        self._hosts: Any = None  # the process group of the devices' CPUs; the accelerators' would wait for an update

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Refuses to resume a run whose time is up: Lightning would end it without a message."""
        if trainer.should_stop:
            raise ConfigError("trainer.max_time must be longer than this run has trained already; raise it to resume")
        if trainer.world_size > 1:
            self._hosts = distributed.new_group(backend="gloo")

    def on_sanity_check_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Defers signals from here on."""
        self._install_handlers(trainer)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Defers signals from here on in a resumed run, which has no evaluation first."""
        self._install_handlers(trainer)
        if signum := self._reduce_requests(trainer)[0]:
            log.info("stopped before the next update: there is nothing new to save")
            raise Stopped(SIGNAL_EXIT_BASE + signum)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stops after an update, unless an evaluation comes next."""
        if (batch_idx + 1) % trainer.accumulate_grad_batches == 0 and not _evaluation_is_next(trainer):
            self._stop_if_requested(trainer, saved=False)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stops after an evaluation, unless it was the last."""
        if not trainer.sanity_checking and trainer.global_step != trainer.max_steps:
            self._stop_if_requested(trainer, saved=True)
            _print_early_stopping(trainer)

    def _install_handlers(self, trainer: L.Trainer) -> None:
        self._is_first_device = trainer.is_global_zero
        for signum in stop_signals():
            signal.signal(signum, self._stop_soon)
        if sys.platform != "win32" and self._requeue is None and SLURMEnvironment.detect():
            if callable(requeue := signal.getsignal(signal.SIGUSR1)):
                signal.signal(signal.SIGUSR1, self._requeue_soon)
                self._requeue = partial(requeue, signal.SIGUSR1, None)

    def _stop_soon(self, signum: int, frame: FrameType | None) -> None:
        if self._signum == signum == signal.SIGINT:
            stop_now(signum, frame)
        self._signum = signum
        leave_closed_terminal()
        if signum == signal.SIGINT and self._is_first_device:
            # Unlike print, os.write is safe in a signal handler.
            os.write(2, b"\nstopping after this update; Ctrl-C again stops at once, without saving\n")

    def _requeue_soon(self, signum: int, frame: FrameType | None) -> None:
        self._requeue_requested = True

    def _reduce_requests(self, trainer: L.Trainer) -> tuple[int, bool]:
        """Returns the signal and the requeue request that any device received, so that all act after the same update.

        Sets `trainer.should_stop` on all devices if it is set on one.
        """
        if trainer.world_size == 1:
            return self._signum, self._requeue_requested
        requests = torch.tensor([self._signum, self._requeue_requested, trainer.should_stop])
        distributed.all_reduce(requests, distributed.ReduceOp.MAX, group=self._hosts)
        signum, requeue, should_stop = requests.tolist()
        trainer.should_stop = bool(should_stop)
        return signum, bool(requeue)

    def _stop_if_requested(self, trainer: L.Trainer, saved: bool) -> None:
        signum, requeue = self._reduce_requests(trainer)
        if requeue:
            self._requeue_requested = False
            self._requeue()
        if signum:
            _stop(trainer, saved, SIGNAL_EXIT_BASE + signum)
        if trainer.should_stop and not saved:
            _stop(trainer, saved, exit_code=0)


def _evaluation_is_next(trainer: L.Trainer) -> bool:
    """Whether Lightning evaluates after this update: the last one, or one at the interval."""
    batches, _ = batches_of(trainer.global_step, trainer)
    return trainer.global_step == trainer.max_steps or is_evaluation_due(batches, trainer)


def _print_early_stopping(trainer: L.Trainer) -> None:
    for callback in trainer.early_stopping_callbacks:
        if trainer.should_stop and (reason := callback.stopping_reason_message):
            log.info("step %d: %s", trainer.global_step, reason.removesuffix(" Signaling Trainer to stop."))


def _stop(trainer: L.Trainer, saved: bool, exit_code: int) -> NoReturn:
    if not saved:
        save_now(trainer)
    log.info("stopped at step %d", trainer.global_step)
    print_how_to_resume(trainer)
    raise Stopped(exit_code)


def print_how_to_resume(trainer: L.Trainer) -> None:
    """Prints the command that resumes a run, if it has a checkpoint."""
    if path := last_checkpoint(trainer):
        log.info("resume: %s fit --ckpt_path %s", program_name(), shlex.quote(relative_to_cwd(path).as_posix()))
