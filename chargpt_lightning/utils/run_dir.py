"""Where runs lie on disk: one directory a run, written by one process at a time."""

import os
import tempfile
from contextlib import suppress
from itertools import count
from pathlib import Path

from filelock import FileLock, Timeout

from chargpt_lightning.utils.atomic import remove_parts
from chargpt_lightning.utils.errors import ConfigError

LOCK = ".lock"
CHECKPOINTS = "checkpoints"
BESIDE_CONFIG = (LOCK, "metrics.csv", CHECKPOINTS)  # a run has at least one; the lock's file may go on release


def require_writable(root: Path) -> None:
    """Tries to write where the directory is or will be, and leaves nothing behind.

    Raises:
        ConfigError: If that fails.
    """
    existing = next(path for path in (root.absolute(), *root.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise ConfigError(
            f"trainer.default_root_dir ({root}) must be a directory that can be written, but: {error.strerror}"
        ) from error


def claim_directory(root: Path) -> Path:
    """Makes the next free `version_N` below `root`; of two runs that start at once each gets its own."""
    root.mkdir(parents=True, exist_ok=True)
    taken = [path.name.removeprefix("version_") for path in root.glob("version_*")]
    for number in count(1 + max((int(name) for name in taken if name.isdecimal()), default=-1)):
        try:
            (root / f"version_{number}").mkdir()
        except FileExistsError:
            continue
        return root / f"version_{number}"
    raise AssertionError("numbers do not end")


def lock_directory(run: Path) -> FileLock:
    """Locks a run's directory for this process, until it ends in whatever way; removes what a killed one left there.

    Raises:
        ConfigError: If another process has it.
    """
    lock = FileLock(run / LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise ConfigError(f"ckpt_path ({run}) must not be of a run that another process is training") from error
    for directory in (run, run / CHECKPOINTS):
        if not directory.is_symlink():  # where it leads, others may be writing
            remove_parts(directory)
    return lock


def release_directory(run: Path) -> None:
    """Takes away a directory that holds nothing, or nothing but its lock, which on Windows goes when it is released."""
    if {path.name for path in run.iterdir()} <= {LOCK}:
        (run / LOCK).unlink(missing_ok=True)
        with suppress(OSError):  # a logger's own process may have written there since
            run.rmdir()


def from_here(path: str | Path) -> Path:
    """A path as it is from the working directory, or itself where none leads there: to another drive of Windows."""
    try:
        return Path(os.path.relpath(path))
    except ValueError:
        return Path(path)


def is_run(directory: Path) -> bool:
    """Whether a directory is a run's. A config.yaml is not enough: W&B and Hydra write one too."""
    is_there = (directory / "config.yaml").is_file()
    return is_there and any((directory / name).exists() for name in BESIDE_CONFIG)


def newest_checkpoint(root: Path, name: str) -> Path:
    """The checkpoint of the run below `root` that was started, or resumed, last; in nanoGPT's out_dir its ckpt.pt.

    Args:
        root: Where runs lie, at any depth.
        name: "best" or "last"; where a run has only the other one, that.

    Raises:
        ConfigError: If there is no run, or the newest has no checkpoint.
    """
    runs = _newest_first(root)
    wanted = sorted(("best", "last"), key=lambda other: other != name)
    found = {run: _first_existing(run, wanted) for run in runs}
    if not runs and (theirs := root / "ckpt.pt").is_file():
        return theirs
    if not any(found.values()):
        raise ConfigError(f"trainer.default_root_dir ({root}) must hold a run with a checkpoint: `fit` makes one")
    newest, earlier = runs[0], next(filter(None, found.values()))
    if checkpoint := found[newest]:
        return checkpoint
    raise ConfigError(
        f"ckpt_path ({name}) must be of the newest run, but {newest} has no checkpoint yet; "
        f"an earlier one: --ckpt_path {earlier}"
    )


def _newest_first(root: Path) -> list[Path]:
    configs = (path for path in root.glob("**/config.yaml") if is_run(path.parent))
    return [path.parent for path in sorted(configs, key=lambda path: path.stat().st_mtime_ns, reverse=True)]


def _first_existing(run: Path, names: list[str]) -> Path | None:
    paths = (run / CHECKPOINTS / f"{name}.ckpt" for name in names)
    return next((path for path in paths if path.exists()), None)
