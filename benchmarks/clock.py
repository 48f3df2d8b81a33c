"""Step times: a callback that records them, and their median without warm-up and evaluations."""

import json
import time
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

WARMUP = 10  # steps until caches and the memory allocator have settled


class StepClock(Callback):
    """Writes the time of each training step to a file.

    Args:
        file: Path of a JSON file, which will contain a list of milliseconds.
    """

    def __init__(self, file: str) -> None:
        self.file = file
        self._stamps_s: list[float] = []

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Records the start of the first step."""
        self._stamps_s.append(time.perf_counter())

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Records the end of a step; callbacks that run after this one count toward the next step."""
        self._stamps_s.append(time.perf_counter())

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Writes the file."""
        Path(self.file).write_text(json.dumps(steps_ms(self._stamps_s)), encoding="utf-8")


def steps_ms(stamps_s: list[float]) -> list[float]:
    """Returns the milliseconds between successive time stamps."""
    return [1000 * (end - start) for start, end in pairwise(stamps_s)]


def timed_ms(steps: Iterable[object]) -> list[float]:
    """Makes steps, one at each iteration; returns the milliseconds of each."""
    return steps_ms([time.perf_counter(), *(time.perf_counter() for _ in steps)])


def steady_ms(times_ms: list[float], eval_interval: int) -> float:
    """Returns the median step time without warm-up and without steps whose time includes an evaluation.

    In both programs an evaluation counts toward the step after it.
    """
    return median(ms for number, ms in enumerate(times_ms) if number >= WARMUP and number % eval_interval)
