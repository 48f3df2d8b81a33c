"""metrics.csv: the figures of a run, row by row, through stops and resumptions as if there had been none."""

import csv
import io
import logging
import os
from pathlib import Path
from typing import Any

import lightning as L
from filelock import FileLock
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from chargpt_lightning.files import write_whole
from chargpt_lightning.runs import claim_directory, lock_directory, release_directory

log = logging.getLogger(__name__)

ROWS_IN_MEMORY = 100


class History(Logger):
    """Writes metrics.csv, and with it says which directory is the run's.

    Lightning's CSVLogger deletes what it finds in a directory, and numbers its directories so that two runs that
    start at once share one.

    Args:
        root: A new run gets a directory below it when it starts.
        run: The directory of a run that goes on; None for a new run.

    Raises:
        ConfigError: When the run starts, if another process is at it.
    """

    def __init__(self, root: Path, run: Path | None = None) -> None:
        super().__init__()
        self.rows = 0
        self._root = root
        self._run = run
        self._lock: FileLock | None = None
        self._names: list[str] = []
        self._pending: list[dict[str, Any]] = []

    @property
    def name(self) -> str:
        """Nothing: `save_dir` is the run's directory already."""
        return ""

    @property
    def version(self) -> str:
        """Nothing, likewise."""
        return ""

    @property
    def save_dir(self) -> str:
        """The run's directory; the first process claims it when it first asks, and tells the others."""
        if self._lock is None and rank_zero_only.rank == 0:  # type: ignore[attr-defined]
            self._run = self._run or claim_directory(self._root)
            self._lock = lock_directory(self._run)
        return str(self._run or self._root)

    @property
    def path(self) -> Path:
        """The file."""
        return Path(self.save_dir, "metrics.csv")

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: config.yaml and the checkpoints have them."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        """Adds a row."""
        figures = {name: value.item() if isinstance(value, Tensor) else value for name, value in metrics.items()}
        self._pending.append({**figures, "step": step})
        self.rows += 1
        if len(self._pending) >= ROWS_IN_MEMORY:
            self.save()

    @rank_zero_only
    def save(self) -> None:
        """Writes the rows that are in memory; new names in them make the file anew."""
        if not self._pending:
            return
        names = sorted(set(self._names).union(*self._pending))
        if names != self._names or not self.path.exists():
            self._rewrite(names, [*self._read(), *self._pending])
        else:
            with self.path.open("a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, names).writerows(self._pending)
                file.flush()
                os.fsync(file.fileno())  # a checkpoint that counts these rows must not outlive them
        self._pending = []

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Writes the rest. After a failure only if it can: the failure is what must be heard of."""
        try:
            self.save()
        except OSError:
            if status != "failed":
                raise

    @rank_zero_only
    def go_on_from(self, row: int) -> None:
        """Drops what the stopped run had logged beyond the checkpoint that it goes on from."""
        if kept := self._read()[:row]:
            self._rewrite(list(kept[0]), kept)
            self.rows = len(kept)
            if self.rows < row:
                log.warning("%s has lost %d of the %d rows before the checkpoint", self.path, row - self.rows, row)

    @rank_zero_only
    def close(self) -> None:
        """Leaves the run's directory to others, or takes it away if the run never came to write into it."""
        if self._run is not None and self._lock is not None:
            self._lock.release()
            release_directory(self._run)

    def _read(self) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        with self.path.open(newline="", encoding="utf-8", errors="replace") as file:
            return list(csv.DictReader(file))

    def _rewrite(self, names: list[str], rows: list[dict[str, Any]]) -> None:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, names, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
        write_whole(self.path, text.getvalue().encode())
        self._names = names


class HistoryInCheckpoints(Callback):
    """Makes a checkpoint know the row that it was saved after."""

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Writes the rows so far, and counts them into the checkpoint."""
        if trainer.is_global_zero and isinstance(history := trainer.logger, History):
            history.save()
            checkpoint["history"] = {"run": Path(history.save_dir).name, "rows": history.rows}

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Goes on from that row."""
        if trainer.is_global_zero and isinstance(history := trainer.logger, History):
            history.go_on_from(checkpoint["history"]["rows"] if "history" in checkpoint else 0)
