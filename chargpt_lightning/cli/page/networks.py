"""Lists the runs that the page offers, and loads their networks."""

from functools import lru_cache
from pathlib import Path

from chargpt_lightning.module import CharGPT
from chargpt_lightning.utils.metrics_csv import best_val_loss
from chargpt_lightning.utils.run_dir import checkpoint_at, relative_to_cwd, runs_below
from chargpt_lightning.utils.utf8 import is_encodable


def labeled_runs(out_dir: Path) -> list[tuple[str, str]]:
    """Returns the runs in a directory, newest first, each as a label with its best val loss and a `--ckpt_path`.

    Runs whose path is not UTF-8 are left out, because browsers are sent nothing else.
    """
    runs = [run for run in map(relative_to_cwd, runs_below(out_dir)) if is_encodable(str(run))]
    losses = map(best_val_loss, runs)
    labels = [
        str(run) if loss is None else f"{run}, val loss {loss:.4f}" for run, loss in zip(runs, losses, strict=True)
    ]
    return list(zip(labels, map(str, runs), strict=True))


def load(name: str) -> CharGPT:
    """Returns the network that a `--ckpt_path` names, read again if its file was replaced.

    Raises:
        ConfigError: If the checkpoint is missing, cannot be read, or is of a network that this package does not have.
    """
    path = checkpoint_at(Path(name), "best")
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    stats = [file.stat() for file in files if file.exists()]
    return _load(path, tuple((stat.st_mtime_ns, stat.st_size) for stat in stats))


@lru_cache(maxsize=8)  # networks stay in memory
def _load(path: Path, stamp: tuple[tuple[int, int], ...]) -> CharGPT:
    """Reads a checkpoint; `stamp` has a pair for each of its files: when it was changed last, and its size."""
    return CharGPT.load_from_checkpoint(path).eval()
