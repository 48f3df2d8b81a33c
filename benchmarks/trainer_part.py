"""What the Trainer adds to a step: within one `fit`, blocks of its steps alternate with blocks of bare ones.

Both have the same process, memory and hour: in separate processes, steps differ by more than the Trainer takes.
"""

import json
import time
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from benchmarks.bench import Bench
from benchmarks.clock import steps_ms, timed_ms
from benchmarks.contenders import fit_with_clock
from benchmarks.figures import Figures
from benchmarks.workers.training_loop import bare_steps
from chargpt_lightning import CharGPT

BLOCK = 25  # steps


def measure(bench: Bench, precision: str) -> Figures:
    """Trains the recipe; returns the time of a step with the Trainer and of one without."""
    steps = 4 * bench.sizes.steps
    flags = ("--trainer.precision", precision)
    _, figures = fit_with_clock(bench, "trainer_part.BesideBareSteps", steps, steps, *flags)
    return figures


class BesideBareSteps(Callback):
    """After each block of training steps, makes as many bare steps with a network of its own.

    Args:
        file: Path of a JSON file, which will contain the median milliseconds of both kinds of steps.
    """

    def __init__(self, file: str) -> None:
        self.file = file
        self._stamps_s: list[float] = []
        self._blocks_ms: list[tuple[float, float]] = []  # medians: with the Trainer, and without

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Makes the other network."""
        batches = trainer.datamodule.train_dataloader()  # type: ignore[attr-defined]
        self._bare = bare_steps(CharGPT(**pl_module.hparams), batches, trainer.precision)
        self._stamps_s = [time.perf_counter()]

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Records the end of a step; a complete block is followed by one of bare steps."""
        self._stamps_s.append(time.perf_counter())
        if len(self._stamps_s) > BLOCK:
            bare_ms = timed_ms(islice(self._bare, BLOCK))
            self._blocks_ms.append((median(steps_ms(self._stamps_s)), median(bare_ms)))
            self._stamps_s = [time.perf_counter()]

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Writes the file, without the first block, in which caches and the memory allocator settle."""
        with_trainer, without = (median(times) for times in zip(*self._blocks_ms[1:], strict=True))
        Path(self.file).write_text(json.dumps({"step_ms": with_trainer, "bare_step_ms": without}), encoding="utf-8")
