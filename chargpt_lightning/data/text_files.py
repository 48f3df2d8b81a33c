"""Reads files of any size in chunks, as bytes or as UTF-8 text, and resolves paths and glob patterns."""

import codecs
import io
import os
import reprlib
from collections.abc import Callable, Iterable, Iterator
from glob import escape, glob
from itertools import chain
from pathlib import Path

from chargpt_lightning.utils.errors import ConfigError
from chargpt_lightning.utils.paths import expand_user

OnRead = Callable[[bytes], object]  # is called with each chunk of bytes that is read, e.g. to update a checksum
CHUNK_BYTES = 2**18  # small enough for the data derived from a chunk to stay in a core's cache


def read_chunks(path: Path, label: str) -> Iterator[bytes]:
    """Yields the bytes of a file, `CHUNK_BYTES` at a time.

    Args:
        path: File to read.
        label: How error messages refer to it: `data.text (my.txt)`.

    Raises:
        ConfigError: If it cannot be read.
    """
    try:
        with path.open("rb") as file:
            while raw := file.read(CHUNK_BYTES):
                yield raw
    except (OSError, ValueError) as error:  # a NUL in the path is a ValueError
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{label} must be a readable file, but: {reason}") from error


def with_callback(chunks: Iterable[bytes], on_read: OnRead) -> Iterator[bytes]:
    """Yields the chunks unchanged, after calling `on_read` with each."""
    for raw in chunks:
        on_read(raw)
        yield raw


def decode_utf8(chunks: Iterable[bytes], label: str) -> Iterator[str]:
    """Decodes a text; converts line ends to `\\n` and drops a byte order mark.

    Args:
        chunks: Bytes of the text, cut at any position.
        label: How error messages refer to the text.

    Raises:
        ConfigError: If the bytes are not UTF-8.
    """
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    lines = io.IncrementalNewlineDecoder(None, translate=True)
    read, has_returns = 0, False
    try:
        for raw in chain(chunks, [b""]):
            read += len(raw)
            text = decoder.decode(raw, final=not raw)
            has_returns = has_returns or b"\r" in raw
            if has_returns:  # most texts have none, and searching for them takes as long as decoding in e.g. Chinese
                text = lines.decode(text, final=not raw)
            yield text
    except UnicodeDecodeError as error:
        byte = read - len(error.object) + error.start  # error.object is the part not decoded yet
        raise ConfigError(f"{label} must be UTF-8, but byte {byte} is not") from error


def reject_empty(chunks: Iterable[str], label: str) -> Iterator[str]:
    """Yields the chunks of a text unchanged.

    Args:
        chunks: Characters of the text, cut at any position.
        label: How error messages refer to the text.

    Raises:
        ConfigError: At the end, if there were no characters.
    """
    characters = 0
    for chunk in chunks:
        characters += len(chunk)
        yield chunk
    if not characters:
        raise ConfigError(f"{label} must not be empty")


def read_utf8(path: Path, name: str) -> str:
    """Reads a text file; converts line ends to `\\n` and drops a byte order mark.

    Args:
        path: File to read.
        name: Setting that contains the path, for error messages.

    Raises:
        ConfigError: If the file cannot be read, is empty, or is not UTF-8.
    """
    label = f"{name} ({path})"
    return "".join(reject_empty(decode_utf8(read_chunks(path, label), label), label))


def read_prompt(prompt: str) -> str:
    """Returns the prompt, or for `FILE:name` the text of that file.

    Raises:
        ConfigError: If the file cannot be read, is empty, or is not UTF-8.
    """
    if prompt.startswith("FILE:"):
        return read_utf8(Path(expand_user(prompt.removeprefix("FILE:"))), name="prompt")
    return prompt


def require_findable(source: str) -> None:
    """Checks that a path or pattern can be looked up; a text that is given in place of its path cannot.

    Raises:
        ConfigError: If the system refuses it, unless that is because there is no such file.
    """
    try:
        Path(source).stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):  # a NUL is a ValueError
        return
    except OSError as error:
        raise ConfigError(
            f"data.text ({reprlib.repr(source)}) must be the path of a readable file, but: {error.strerror}"
        ) from error


def is_pattern(source: str) -> bool:
    """Whether a source is a glob pattern; the path of an existing file is not, whatever characters it contains."""
    return any(wildcard in source for wildcard in "*?[") and not Path(source).exists()


def matching_files(pattern: str) -> list[Path]:
    """Returns the files that match a glob pattern, sorted by path; `**` matches any number of folders.

    A file that matches under several paths because of symbolic links is returned once, with the path of the fewest
    folders. Otherwise a link to a parent folder would repeat the text 40 times, and put training text into the
    validation split.

    Raises:
        ConfigError: If no file matches.
    """
    try:
        # Path.glob does not accept absolute patterns, and unlike a shell it matches hidden files.
        matches = set(glob(pattern, recursive=True))  # noqa: PTH207
    except ValueError:  # the pattern contains a NUL
        matches = set()
    files: dict[Path, str] = {}
    for match in sorted(matches, key=lambda match: (match.count(os.sep), match)):
        if Path(match).is_file():
            files.setdefault(Path(match).resolve(), match)
    if not files:
        raise ConfigError(f"data.text ({pattern}) must be a file, or a pattern that matches at least one file")
    return [Path(match) for match in sorted(files.values())]


def absolute(source: str) -> str:
    """Returns a path or pattern as an absolute one.

    Raises:
        ConfigError: If it is not valid in the locale's encoding and can therefore not be saved in a checkpoint.
    """
    here = str(Path.cwd())
    path = str(Path(escape(here) if is_pattern(source) else here, source))
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"data.text ({path}) must be a UTF-8 path, because checkpoints store it; "
            "if it is, set a UTF-8 locale, such as LC_ALL=C.UTF-8"
        ) from error
    return path
