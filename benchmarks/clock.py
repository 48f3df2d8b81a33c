"""The times of a run's steps, taken by a callback as any user's."""

import json
import time
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

WARMUP = 10  # steps until caches and allocator are settled


class StepClock(Callback):
    """Writes how long each step took.

    Args:
        file: Where to; a list of milliseconds.
    """

    def __init__(self, file: str) -> None:
        self.file = file
        self._stamps_s: list[float] = []

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The start of the first step."""
        self._stamps_s.append(time.perf_counter())

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """The end of a step; what other callbacks do after it counts with the next."""
        self._stamps_s.append(time.perf_counter())

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Writes the file."""
        Path(self.file).write_text(json.dumps(steps_ms(self._stamps_s)), encoding="utf-8")


def steps_ms(stamps_s: list[float]) -> list[float]:
    """What lies between the stamps, in milliseconds."""
    return [1000 * (end - start) for start, end in pairwise(stamps_s)]


def steady_ms(times_ms: list[float], eval_interval: int) -> float:
    """The median step, without the first ones and without those that an evaluation precedes, there as here."""
    return median(ms for number, ms in enumerate(times_ms) if number >= WARMUP and number % eval_interval)
