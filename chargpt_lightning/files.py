"""Files and directories that are written whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO


@contextmanager
def open_whole(path: Path) -> Iterator[BinaryIO]:
    """Opens a file to write so that whoever reads it, after whatever crash, finds the new content or the old.

    Raises:
        OSError: If it cannot be written; it names the path, and what was there is there still.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with suppress(OSError):  # which it is only after an error
            part.unlink()


def write_whole(path: Path, content: bytes | memoryview) -> None:
    """Writes a file at once, as `open_whole` does.

    Raises:
        OSError: If it cannot be written.
    """
    with open_whole(path) as file:
        file.write(content)


@contextmanager
def make_whole(path: Path) -> Iterator[Path]:
    """Gives a directory to write into, whose files come into `path`, new or empty until then, when all are written.

    Raises:
        OSError: If they cannot be written.
    """
    path = path.absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as directory:
        yield Path(directory)
        path.mkdir(exist_ok=True)
        for file in Path(directory).iterdir():
            file.replace(path / file.name)


def set_aside(path: Path) -> Path:
    """Renames a damaged file to the next free `NAME.damaged-N`, and returns that.

    Raises:
        OSError: If it cannot be renamed.
    """
    names = (path.with_name(f"{path.name}.damaged-{number}") for number in count(1))
    return path.rename(next(name for name in names if not name.exists()))
