"""Files and directories that are written atomically."""

import errno
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

PART = ".part"  # the suffix of a file that is still being written


@contextmanager
def open_whole(path: Path) -> Iterator[BinaryIO]:
    """Opens a file for writing so that readers, even after a crash, find either the new content or the old.

    Each writer has a part file of its own in the same directory; of several writers, the last to finish wins.

    Raises:
        OSError: If it cannot be written; the error names the path, and the old content is unchanged.
    """
    part = path.with_name(f"{path.name}.{secrets.token_hex(8)}{PART}")
    try:
        with part.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException as error:  # Ctrl-C too must leave nothing behind
        with suppress(OSError):
            part.unlink()
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    _sync_directory(path.parent)


def write_whole(path: Path, content: bytes | memoryview) -> None:
    """Writes a file at once, as `open_whole` does.

    Raises:
        OSError: If it cannot be written.
    """
    with open_whole(path) as file:
        file.write(content)


def remove_parts(directory: Path) -> None:
    """Removes the part files that killed writers left in a directory; nobody may be writing there."""
    for part in directory.glob(f"*{PART}"):
        with suppress(OSError):
            part.unlink()


@contextmanager
def make_whole(path: Path) -> Iterator[Path]:
    """Yields a temporary directory, whose files move to `path`, a new or empty directory, once all are written.

    Raises:
        OSError: If they cannot be written, or if `path` is no longer empty by then.
    """
    path = path.absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as directory:
        yield Path(directory)
        for file in Path(directory).iterdir():
            _sync_file(file)
        path.mkdir(exist_ok=True)
        _fill(path, Path(directory))
    _sync_directory(path.parent)


def _fill(path: Path, source: Path) -> None:
    """Moves files into an empty directory; of two processes that try, one is refused."""
    claim = path / PART
    claim.mkdir()
    try:
        if len(list(path.iterdir())) > 1:
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), str(path))
        for file in source.iterdir():
            file.replace(path / file.name)
    finally:
        claim.rmdir()
    _sync_directory(path)


def _sync_file(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _sync_directory(path: Path) -> None:
    """Makes a rename in a directory survive a power cut, where the system and its file system can."""
    if sys.platform == "win32":
        return
    with suppress(OSError):  # some file systems refuse, and a directory may be writable but not readable
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def set_aside(path: Path) -> Path:
    """Renames a damaged file to the next free `NAME.damaged-N`, and returns that.

    Raises:
        OSError: If it cannot be renamed.
    """
    names = (path.with_name(f"{path.name}.damaged-{number}") for number in count(1))
    return path.rename(next(name for name in names if not name.exists()))
