"""metrics.csv: the metrics of a run; a resumed run has the same rows as an uninterrupted one."""

import csv
import logging
import os
from pathlib import Path
from time import perf_counter
from typing import Any

from filelock import FileLock
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from chargpt_lightning.utils.atomic import set_aside
from chargpt_lightning.utils.csv_table import read_header, rewrite
from chargpt_lightning.utils.run_dir import claim_directory, lock_directory, release_directory

log = logging.getLogger(__name__)

LONGEST_IN_MEMORY_S = 3.0
MAX_COLUMNS = 1000  # a damaged header may have any number, which rewriting would repeat in every row


class History(Logger):
    """Writes metrics.csv, and owns the run's directory.

    Lightning's CSVLogger deletes existing files, and gives two runs that start at the same time the same directory.

    Args:
        root: Where a new run gets its directory.
        run: The directory of the run that is resumed; None for a new run.
        branches: Whether the run continues in a new directory and leaves that of `run` unchanged.
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
        self._saved_s = 0.0

    @property
    def name(self) -> str:
        """Empty, because `save_dir` is the run's directory."""
        return ""

    @property
    def version(self) -> str:
        """Empty, because `save_dir` is the run's directory."""
        return ""

    @property
    def save_dir(self) -> str:
        """The run's directory; before it is claimed, and on devices other than the first, the directory of all runs."""
        return str(self._run or self._root)

    @rank_zero_only
    def claim(self) -> None:
        """Makes the directory of a new run, and locks it.

        Raises:
            ConfigError: If another process is training the run.
        """
        self._run = self._run or claim_directory(self._root)
        self._lock = lock_directory(self._run)

    @property
    def path(self) -> Path:
        """Path of metrics.csv."""
        return Path(self.save_dir, "metrics.csv")

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Does nothing: config.yaml and the checkpoints contain them."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        """Adds a row; writes all rows in memory if the last write was more than LONGEST_IN_MEMORY_S ago."""
        figures = {name: value.item() if isinstance(value, Tensor) else value for name, value in metrics.items()}
        self._pending.append({**figures, "step": step})
        self.rows += 1
        if perf_counter() - self._saved_s > LONGEST_IN_MEMORY_S:
            self.save()

    @rank_zero_only
    def save(self) -> None:
        """Appends the rows in memory to the file, or rewrites it if they have new columns."""
        self._saved_s = perf_counter()
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
                os.fsync(file.fileno())  # these rows must be on disk before a checkpoint counts them
        self._pending = []

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Writes the pending rows; after a failure, ignores write errors so that the failure itself is reported."""
        try:
            self.save()
        except OSError:
            if status != "failed":
                raise

    @rank_zero_only
    def continue_after(self, rows: int, columns: list[str]) -> None:
        """Keeps the rows that were logged before a checkpoint, and drops later ones.

        Args:
            rows: Number of rows before the checkpoint.
            columns: Their columns; empty if the checkpoint does not contain them.
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
        """Releases the run's directory, and removes it if nothing was written into it."""
        if self._run is not None and self._lock is not None:
            self._lock.release()
            release_directory(self._run)


def _is_intact(found: list[str], columns: list[str]) -> bool:
    """Whether a header has the expected columns or, if those are unknown, is text with a `step`."""
    if len(found) > MAX_COLUMNS:
        return False
    if columns:
        return set(columns) <= set(found)
    return "step" in found and not any("\udc80" <= character <= "\udcff" for character in "".join(found))
