"""Writes files and directories atomically: readers see the old content or the new, even after a crash."""

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
def open_atomically(path: Path) -> Iterator[BinaryIO]:
    """Opens a file for writing; its content is replaced when the context ends without an error.

    Each writer uses a part file of its own in the same directory. Of several writers, the last to finish wins.

    Yields:
        The part file, open for writing bytes.

    Raises:
        OSError: If the file cannot be written; the error names `path`, and the old content is unchanged.
    """
    part = path.with_name(f"{path.name}.{secrets.token_hex(8)}{PART}")
    try:
        with part.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException as error:  # also on Ctrl-C no part file may remain
        with suppress(OSError):
            part.unlink()
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    _sync_directory(path.parent)


def write_atomically(path: Path, content: bytes | memoryview) -> None:
    """Replaces the content of a file, as `open_atomically` does.

    Raises:
        OSError: If the file cannot be written; the old content is unchanged.
    """
    with open_atomically(path) as file:
        file.write(content)


def remove_parts(directory: Path) -> None:
    """Removes the part files that killed writers left in a directory; no process may be writing to it."""
    for part in directory.glob(f"*{PART}"):
        with suppress(OSError):
            part.unlink()


@contextmanager
def make_directory_atomically(path: Path) -> Iterator[Path]:
    """Fills a new or empty directory; its files appear when the context ends without an error.

    Args:
        path: The directory, which is created if it does not exist.

    Yields:
        A temporary directory, from which all files are moved to `path`.

    Raises:
        OSError: If a file cannot be written, or if `path` is no longer empty when the files are moved.
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
    """Moves files into an empty directory; of two processes that try at the same time, one fails."""
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
    """Makes renames in a directory survive a power failure, if the system and the file system support it."""
    if sys.platform == "win32":
        return
    with suppress(OSError):  # not all file systems can, and a directory may be writable but not readable
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def set_aside(path: Path) -> Path:
    """Renames a damaged file to the next free `NAME.damaged-N`, and returns the new path.

    Raises:
        OSError: If the file cannot be renamed.
    """
    names = (path.with_name(f"{path.name}.damaged-{number}") for number in count(1))
    return path.rename(next(name for name in names if not name.exists()))
