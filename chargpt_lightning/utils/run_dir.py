"""Run directories: one per run, written by one process at a time."""

import os
import shlex
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from itertools import count
from pathlib import Path

from filelock import FileLock, Timeout

from chargpt_lightning.utils.atomic import remove_parts
from chargpt_lightning.utils.errors import ConfigError

LOCK = ".lock"
CHECKPOINTS = "checkpoints"
BESIDE_CONFIG = (LOCK, "metrics.csv", CHECKPOINTS)  # a run has at least one; releasing the lock may delete its file


def require_writable(root: Path) -> None:
    """Checks that a directory can be written or created, by writing a temporary file.

    Raises:
        ConfigError: If the file cannot be written.
    """
    try:
        existing = next(path for path in (root.absolute(), *root.absolute().parents) if path.exists())
        with tempfile.TemporaryFile(dir=existing):
            pass
    except (OSError, ValueError) as error:  # a NUL in the path is a ValueError
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"trainer.default_root_dir ({root}) must be a writable directory, but: {reason}") from error


def claim_directory(root: Path) -> Path:
    """Creates the next free `version_N` below `root`; two runs that start at the same time get different ones."""
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
    """Locks a run's directory, and removes part files that a killed process left there.

    The lock is held until it is released or the process ends.

    Raises:
        ConfigError: If another process has locked it, or it cannot be locked.
    """
    lock = FileLock(run / LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise ConfigError(f"ckpt_path ({run}) must not belong to a run that another process is training") from error
    except (OSError, NotImplementedError) as error:
        release_directory(run)
        raise ConfigError(
            f"the lock ({run / LOCK}) must be a writable file, on a file system with locks, but: {error}; "
            "--trainer.default_root_dir puts new runs elsewhere"
        ) from error
    for directory in (run, run / CHECKPOINTS):
        if not directory.is_symlink():  # another process may be writing to its target
            remove_parts(directory)
    return lock


def release_directory(run: Path) -> None:
    """Deletes a run's directory if it contains nothing but the lock, which Windows deletes when it is released."""
    if {path.name for path in run.iterdir()} <= {LOCK}:
        with suppress(OSError):  # the process of a logger may have written a file meanwhile
            (run / LOCK).unlink(missing_ok=True)
            run.rmdir()


def relative_to_cwd(path: str | Path) -> Path:
    """Returns a path relative to the working directory, or unchanged if it is on another drive of Windows."""
    try:
        return Path(os.path.relpath(path))
    except ValueError:
        return Path(path)


def is_run(directory: Path) -> bool:
    """Whether a directory is a run's. A config.yaml is not enough: W&B and Hydra write one too."""
    has_config = (directory / "config.yaml").is_file()
    return has_config and any((directory / name).exists() for name in BESIDE_CONFIG)


def find_checkpoint(ckpt_path: str | Path, root: Path, of_run: str = "best") -> Path:
    """Returns the checkpoint that `--ckpt_path` names.

    Args:
        ckpt_path: A checkpoint, a run's directory, or `best` or `last` of the newest run below `root`.
        root: The directory that contains runs.
        of_run: "best" or "last", the checkpoint that a run's directory stands for.

    Raises:
        ConfigError: If there is no run, or if the run has no checkpoint.
    """
    if ckpt_path in ("best", "last"):
        return newest_checkpoint(root, str(ckpt_path))
    return checkpoint_at(Path(ckpt_path), of_run)


def checkpoint_at(path: Path, name: str) -> Path:
    """Returns the checkpoint of a run, given its directory, and any other path unchanged.

    Args:
        path: A run's directory, or a checkpoint: a file or a Hugging Face folder.
        name: "best" or "last"; if a run has only the other one, that one is used.

    Raises:
        ConfigError: If the run has no checkpoint.
    """
    if not is_run(path) or (path / "config.json").is_file():  # a Hugging Face folder, whatever else it contains
        return path
    if checkpoint := _first_existing(path, name):
        return checkpoint
    raise ConfigError(f"ckpt_path ({path}) must be a run with a checkpoint, but it has none yet")


def name_of(checkpoint: Path) -> str:
    """Returns the shortest `--ckpt_path` of a checkpoint: of a run's best one, the run's directory."""
    run = checkpoint.parent.parent
    return str(run if checkpoint == _first_existing(run, "best") and is_run(run) else checkpoint)


def checkpoints_beside(ckpt_path: str, most: int) -> list[Path]:
    """Returns the checkpoints of a run, oldest first, at most so many, evenly spread; the newest is one of them.

    Args:
        ckpt_path: The run, or one of them. A checkpoint that is in no run is the only one.
        most: How many.

    Raises:
        ConfigError: If the run has no checkpoint.
    """
    one = checkpoint_at(Path(ckpt_path), "best")
    found = (list(one.parent.glob("*.ckpt")) if is_run(one.parent.parent) else []) or [one]
    ordered = sorted(found, key=lambda path: path.stat().st_mtime_ns)
    count = min(most, len(ordered))
    return [ordered[-1 - n * (len(ordered) - 1) // max(count - 1, 1)] for n in reversed(range(count))]


def newest_checkpoint(root: Path, name: str) -> Path:
    """Finds the checkpoint of the newest run; if there are no runs, nanoGPT's ckpt.pt.

    Args:
        root: The directory that contains runs, at any depth, or nanoGPT's out_dir. The newest run is the one that was
            started or resumed last.
        name: "best" or "last"; if a run has only the other one, that one is used.

    Raises:
        ConfigError: If there is no run, or if the newest run has no checkpoint.
    """
    runs = runs_below(root)
    found = {run: _first_existing(run, name) for run in runs}
    if not runs and (nanogpt := root / "ckpt.pt").is_file():
        return nanogpt
    if not any(found.values()):
        raise ConfigError(f"trainer.default_root_dir ({root}) must contain a run with a checkpoint; {_elsewhere(name)}")
    newest, earlier = runs[0], next(filter(None, found.values()))
    if checkpoint := found[newest]:
        return checkpoint
    raise ConfigError(
        f"ckpt_path ({name}) must be in the newest run, but {newest} has no checkpoint yet; "
        f"to use an earlier one: --ckpt_path {earlier}"
    )


def runs_below(root: Path) -> list[Path]:
    """Returns the runs in a directory, at any depth; the one that was started or resumed last is first."""
    return _newest_first(root.glob("**/config.yaml"))


def _elsewhere(name: str) -> str:
    """Says how to use a run in another directory, with the newest one that is at most two folders below this one."""
    patterns = ("version_*", "*/version_*", "*/*/version_*")  # deeper ones could take minutes to find
    seen = _newest_first(path for pattern in patterns for path in Path().glob(f"{pattern}/config.yaml"))
    if run := next((run for run in seen if _first_existing(run, name)), None):
        return f"to use the newest one seen elsewhere: --ckpt_path {shlex.quote(run.as_posix())}"
    return "`fit` creates one; to use one elsewhere: --ckpt_path RUN"


def _newest_first(configs: Iterable[Path]) -> list[Path]:
    found = (path for path in configs if is_run(path.parent))
    return [path.parent for path in sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True)]


def _first_existing(run: Path, name: str) -> Path | None:
    wanted = sorted(("best", "last"), key=lambda other: other != name)
    paths = (run / CHECKPOINTS / f"{other}.ckpt" for other in wanted)
    return next((path for path in paths if path.exists()), None)
