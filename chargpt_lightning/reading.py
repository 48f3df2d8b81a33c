"""Files that may be larger than memory, read in pieces: their bytes, and the characters of those in UTF-8."""

import codecs
import io
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path

from chargpt_lightning.errors import ConfigError

Seen = Callable[[bytes], object]  # what is shown the bytes of a reading: a checksum's update
CHUNK_BYTES = 2**18  # what is made of it stays in a core's own cache


def read_chunks(path: Path, said: str) -> Iterator[bytes]:
    """The bytes of a file as they are, `CHUNK_BYTES` at a time.

    Args:
        path: The file.
        said: What an error calls it: `data.text (my.txt)`.

    Raises:
        ConfigError: If it cannot be read.
    """
    try:
        with path.open("rb") as file:
            while raw := file.read(CHUNK_BYTES):
                yield raw
    except (OSError, ValueError) as error:  # a NUL in the path is a ValueError
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{said} must be a file that can be read, but: {reason}") from error


def watched(chunks: Iterable[bytes], seen: Seen) -> Iterator[bytes]:
    """The same bytes, each chunk shown to `seen` first."""
    for raw in chunks:
        seen(raw)
        yield raw


def decode_utf8(chunks: Iterable[bytes], said: str) -> Iterator[str]:
    """The characters of a text, line ends as `\\n` and without a byte order mark.

    Args:
        chunks: Its bytes, cut anywhere.
        said: What an error calls it.

    Raises:
        ConfigError: If the bytes are not UTF-8.
    """
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    lines = io.IncrementalNewlineDecoder(None, translate=True)
    read, returns = 0, False
    try:
        for raw in chain(chunks, [b""]):
            read += len(raw)
            text = decoder.decode(raw, final=not raw)
            returns = returns or b"\r" in raw
            if returns:  # most texts have none, and looking for them among Chinese takes as long as the decoding
                text = lines.decode(text, final=not raw)
            yield text
    except UnicodeDecodeError as error:
        byte = read - len(error.object) + error.start  # the object is what was left of the chunks so far
        raise ConfigError(f"{said} must be UTF-8, but byte {byte} is not") from error


def not_empty(chunks: Iterable[str], said: str) -> Iterator[str]:
    """The characters of a text as they are.

    Args:
        chunks: Its characters, cut anywhere.
        said: What an error calls it.

    Raises:
        ConfigError: At the end, if there were none.
    """
    characters = 0
    for chunk in chunks:
        characters += len(chunk)
        yield chunk
    if not characters:
        raise ConfigError(f"{said} must not be empty")


def read_utf8(path: Path, name: str) -> str:
    """The text of a file, its line ends as `\\n` and without a byte order mark.

    Args:
        path: The file.
        name: What the setting that gave the path is called in an error.

    Raises:
        ConfigError: If the file cannot be read, is empty, or is not UTF-8.
    """
    said = f"{name} ({path})"
    return "".join(not_empty(decode_utf8(read_chunks(path, said), said), said))
