"""Files that may be larger than memory, read in pieces: their bytes, and the characters of those in UTF-8."""

import codecs
import io
import os
from collections.abc import Callable, Iterable, Iterator
from glob import escape, glob
from itertools import chain
from pathlib import Path

from chargpt_lightning.utils.errors import ConfigError

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


def read_prompt(prompt: str) -> str:
    """The prompt itself, or the text of the file that `FILE:name` names.

    Raises:
        ConfigError: If the file cannot be read, is empty, or is not UTF-8.
    """
    if prompt.startswith("FILE:"):
        return read_utf8(Path(prompt.removeprefix("FILE:")), name="prompt")
    return prompt


def expanded(source: str) -> Path:
    """The path with the home directory for `~`; that of a user whom nobody knows stays as it is."""
    return Path(os.path.expanduser(source))  # noqa: PTH111  Path's own raises RuntimeError for an unknown user


def is_pattern(source: str) -> bool:
    """Whether it names files by what they match; a path that exists is no pattern, whatever signs it has."""
    return any(sign in source for sign in "*?[") and not expanded(source).exists()


def matching_files(pattern: str) -> list[Path]:
    """The files that match, sorted by path; `**` stands for any folders.

    A file that links make match more than once counts once, by its shortest path: a link to a folder above itself would
    make a text of 40 copies, and put what trains into what validates.

    Raises:
        ConfigError: If there are none.
    """
    try:
        # Path.glob takes no absolute pattern, and hidden files, which a shell does not.
        matches = set(glob(str(expanded(pattern)), recursive=True))  # noqa: PTH207
    except ValueError:  # a NUL in it
        matches = set()
    files: dict[Path, str] = {}
    for match in sorted(matches, key=lambda match: (match.count(os.sep), match)):
        if Path(match).is_file():
            files.setdefault(Path(match).resolve(), match)
    if not files:
        raise ConfigError(f"data.text ({pattern}) must be a file, or match at least one, but there is none")
    return [Path(match) for match in sorted(files.values())]


def absolute(source: str) -> str:
    """The path or pattern that means in any directory what this one means here.

    Raises:
        ConfigError: If it is no text that can be kept, because its bytes are not of the locale's encoding.
    """
    here = str(Path.cwd())
    found = str(Path(escape(here) if is_pattern(source) else here, expanded(source)))
    try:
        found.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"data.text ({found}) must be a path in UTF-8, in a locale of UTF-8 (LC_ALL=C.UTF-8), to be kept for later"
        ) from error
    return found
