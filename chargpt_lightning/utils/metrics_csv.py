"""Reads a run's metrics.csv in bounded memory."""

import csv
from functools import lru_cache
from pathlib import Path

from chargpt_lightning.utils.errors import ConfigError
from chargpt_lightning.utils.metrics import EVALUATION_PREFIXES, LR, TRAIN_EVAL_LOSS, TRAIN_LOSS, VAL_LOSS

Points = tuple[list[int], list[float]]  # steps, and the value at each step
MAX_POINTS = 100_000  # of a column that is logged at every update: a hundred per pixel of the plot's width
PLOTTED = (TRAIN_LOSS, VAL_LOSS, TRAIN_EVAL_LOSS, LR)
LIMIT = 1e15  # of plotted numbers; matplotlib fails on larger ones


class _Column:
    """The points of a column; whenever there are more than `most`, every second point is dropped."""

    def __init__(self, most: int | None) -> None:
        self.points: Points = ([], [])
        self._most = most
        self._interval = 1
        self._seen = 0

    def add(self, step: int, value: float) -> None:
        """Adds a point, unless it is one of those to drop."""
        steps, values = self.points
        if self._seen % self._interval == 0:
            steps.append(step)
            values.append(value)
        self._seen += 1
        if self._most is not None and len(steps) > self._most:
            del steps[1::2], values[1::2]
            self._interval *= 2


def read_columns(run: Path) -> dict[str, Points]:
    """Reads the columns of a run's metrics.csv, each with the steps at which it has a value.

    Columns of evaluations keep all their points, others at most MAX_POINTS, evenly spaced.

    Raises:
        ConfigError: If the file is missing, or contains anything but numbers, or no val loss.
    """
    columns: dict[str, _Column] = {}
    try:
        with (run / "metrics.csv").open(newline="", encoding="utf-8") as file:
            rows = csv.reader(file)
            names = next(rows, [])
            for cells in filter(None, rows):
                _add_row(columns, names, cells)
    except OSError as error:
        raise ConfigError(f"run ({run}) must be a run's directory with a metrics.csv, but: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, OverflowError, csv.Error) as error:
        raise ConfigError(f"run ({run}) must have numbers in its metrics.csv, but: {error}") from error
    if VAL_LOSS not in columns:
        raise ConfigError(f"run ({run}) must have been evaluated at least once to be plotted")
    return {name: column.points for name, column in columns.items()}


def _add_row(columns: dict[str, _Column], names: list[str], cells: list[str]) -> None:
    if len(cells) > len(names):
        raise ValueError(f"a row has {len(cells)} fields and the header {len(names)}")
    row = dict(zip(names, cells, strict=False))
    for name, cell in row.items():
        if cell:
            step, value = int(row["step"]), float(cell)
            if not 0 <= step < LIMIT or (name in PLOTTED and not abs(value) < LIMIT):
                raise ValueError(f"{name} ({cell}) at step {row['step']} cannot be plotted")
            if name not in columns:
                columns[name] = _Column(None if name.startswith(EVALUATION_PREFIXES) else MAX_POINTS)
            columns[name].add(step, value)


def best_val_loss(run: Path) -> float | None:
    """Returns the lowest val loss in a run's metrics.csv, in nats per character; None if it has none.

    The file, which may have a million rows, is read again only after it has changed.
    """
    file = run / "metrics.csv"
    return _best_val_loss(run, file.stat().st_mtime_ns) if file.exists() else None


@lru_cache(maxsize=1000)
def _best_val_loss(run: Path, changed_ns: int) -> float | None:
    try:
        return min(read_columns(run)[VAL_LOSS][1])
    except ConfigError:
        return None
