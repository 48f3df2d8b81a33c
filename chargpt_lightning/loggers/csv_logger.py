"""metrics.csv: the figures of a run, row by row, through stops and resumptions as if there had been none."""

import csv
import logging
import os
from pathlib import Path
from typing import Any

from filelock import FileLock
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from chargpt_lightning.utils.atomic import set_aside
from chargpt_lightning.utils.csv_table import read_header, rewrite
from chargpt_lightning.utils.run_dir import claim_directory, lock_directory, release_directory

log = logging.getLogger(__name__)

ROWS_IN_MEMORY = 100


class History(Logger):
    """Writes metrics.csv, and with it says which directory is the run's.

    Lightning's CSVLogger deletes what it finds in a directory, and numbers its directories so that two runs that
    start at once share one.

    Args:
        root: A new run gets a directory below it when it starts.
        run: The directory of the run that continues; None for a new run.
        branches: Whether it continues in a directory of its own, and leaves that of `run` as it is.

    Raises:
        ConfigError: When the run starts, if another process is training it.
    """

    def __init__(self, root: Path, run: Path | None = None, branches: bool = False) -> None:
        super().__init__()
        self.rows = 0
        self.columns: list[str] = []
        self.in_place = run is not None and not branches
        self._root = root
        self._before = run
        self._run = None if branches else run
        self._lock: FileLock | None = None
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
        """Writes the rows that are in memory; new names in them rewrite the file."""
        if not self._pending:
            return
        columns = sorted(set(self.columns).union(*self._pending))
        if columns != self.columns or not self.path.exists():
            rewrite(self.path, self.path, columns, more=self._pending)
            self.columns = columns
        else:
            with self.path.open("a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, columns).writerows(self._pending)
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
    def go_on_from(self, rows: int, columns: list[str]) -> None:
        """Begins with the rows that the run had logged before a checkpoint, without later ones.

        Args:
            rows: How many there were.
            columns: Of which columns; empty if the checkpoint does not say.
        """
        if self._before is None:
            return
        source = self._before / "metrics.csv"
        found = read_header(source)
        if _is_intact(found, columns):
            self.columns = columns or found
            self.rows = rewrite(source, self.path, self.columns, most=rows)
        elif found:
            kept = set_aside(source) if self.in_place else source
            log.warning("%s has a damaged header, so its rows are left out; they are still in %s", source, kept)
        if self.rows < rows:
            log.warning("%s has lost %d of the %d rows before the checkpoint", source, rows - self.rows, rows)

    @rank_zero_only
    def close(self) -> None:
        """Leaves the run's directory to others, or takes it away if the run never came to write into it."""
        if self._run is not None and self._lock is not None:
            self._lock.release()
            release_directory(self._run)


def _is_intact(found: list[str], columns: list[str]) -> bool:
    """Whether a header has the columns that it must have; where those are unknown, whether it is text with a step."""
    if columns:
        return set(columns) <= set(found)
    return "step" in found and not any("\udc80" <= character <= "\udcff" for character in "".join(found))
