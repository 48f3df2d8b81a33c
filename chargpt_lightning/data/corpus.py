"""Text sources: files, a nanoGPT data folder, Tiny Shakespeare (downloaded once), or plays from a package."""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pooch

from chargpt_lightning.data.nanogpt import open_folder
from chargpt_lightning.data.shakespeare import fetch_tinyshakespeare, has_plays, render_plays
from chargpt_lightning.data.text_files import (
    OnRead,
    absolute,
    decode_utf8,
    is_pattern,
    matching_files,
    read_chunks,
    reject_empty,
    require_findable,
    with_callback,
)
from chargpt_lightning.utils.errors import ConfigError
from chargpt_lightning.utils.paths import expand_user

log = logging.getLogger(__name__)

KEYWORDS = ("tinyshakespeare", "plays", "auto")
FILE_SEPARATOR = b"\xfe"  # never occurs in UTF-8


@dataclass(frozen=True)
class Part:
    """Part of a corpus: a file, a nanoGPT data folder or a built-in text.

    Both functions read from the start at each call, and raise ConfigError if that fails.

    Args:
        source: Path or name, for error messages.
        raw_chunks: Returns the bytes that determine the characters; parts with equal bytes have equal characters.
        chunks: Returns the characters. Calls its argument with each chunk of bytes that it reads for them; these are
            `raw_chunks`, unless the source has changed.
    """

    source: str
    raw_chunks: Callable[[], Iterable[bytes]]
    chunks: Callable[[OnRead], Iterator[str]]


@dataclass(frozen=True)
class Corpus:
    """Text that is read in chunks, because it may be larger than memory.

    Args:
        name: `tinyshakespeare`, `plays`, the absolute path of a file or folder, an absolute pattern, or a list of
            absolute paths and patterns.
        label: How error messages refer to it: `data.text (my.txt)`.
        parts: Parts of the text, in order.
        alphabet: All characters in the order of their ids, if the source defines them; None uses those that occur.
        train_characters: Length of the training split, if the source defines it; None uses nine tenths of the text.
    """

    name: str | list[str]
    label: str
    parts: Sequence[Part]
    alphabet: str | None = None
    train_characters: int | None = None

    def raw_chunks(self) -> Iterator[bytes]:
        """Yields the bytes that determine the characters; texts with equal bytes are equal."""
        for number, part in enumerate(self.parts):
            if number:
                yield FILE_SEPARATOR
            yield from part.raw_chunks()

    def pieces(self, on_read: OnRead) -> Iterator[tuple[str, int, str]]:
        """Yields each chunk of characters with the source of its part and its position there.

        Args:
            on_read: Is called with each chunk of bytes that is read; these are `raw_chunks`, unless the text has
                changed.

        Yields:
            Source, position and characters.
        """
        for number, part in enumerate(self.parts):
            if number:
                on_read(FILE_SEPARATOR)
            position = 0
            for chunk in part.chunks(on_read):
                yield part.source, position, chunk
                position += len(chunk)

    def chunks(self, on_read: OnRead = lambda raw: None) -> Iterator[str]:
        """Yields the characters, at least one in total, and calls `on_read` with each chunk of bytes that is read."""
        return reject_empty((chunk for _, _, chunk in self.pieces(on_read)), self.label)


def load_corpus(text: str | list[str]) -> Corpus:
    """Returns the corpus that `data.text` names.

    Args:
        text: `tinyshakespeare`, `plays`, `auto` (whichever of the two is available first), the path of a file or of a
            nanoGPT data folder, a glob pattern (`books/*.txt`), or a list of paths and patterns, whose files are
            combined into one text. A list of one element is the same as that element.

    Raises:
        ConfigError: If a download fails, the plays are not installed, a path can be read only once (a pipe) or is too
            long to be one, a folder is not a nanoGPT data folder, a pattern matches no file, or a list contains
            anything but files and patterns.
    """
    sources = list(map(expand_user, [text] if isinstance(text, str) else text))
    for source in sources:
        require_findable(source)
    if len(sources) == 1 and not is_pattern(sources[0]):
        return _load_one(sources[0])
    if not sources:
        raise ConfigError("data.text ([]) must name at least one file")
    names = [absolute(source) for source in sources]
    parts = [_file(path) for source in sources for path in _files(source)]
    return Corpus(names if len(names) > 1 else names[0], f"data.text ({short_name(sources)})", parts)


def short_name(names: str | list[str]) -> str:
    """Returns the name of a text for a message: the first source and the number of the others."""
    names = [names] if isinstance(names, str) else names
    return f"{names[0]} and {len(names) - 1} more" if len(names) > 1 else names[0]


def cache_directory() -> Path:
    """Returns this package's cache directory: below XDG_CACHE_HOME, or in the system's default location.

    Raises:
        ConfigError: If the user has no home directory.
    """
    if base := os.environ.get("XDG_CACHE_HOME"):  # pooch respects it on Linux only
        return Path(base, "chargpt_lightning")
    try:
        return Path(pooch.os_cache("chargpt_lightning")).expanduser()
    except RuntimeError as error:
        raise ConfigError(
            "the cache must be in a home directory, but this user has none; set XDG_CACHE_HOME to another directory"
        ) from error


def _load_one(source: str) -> Corpus:
    if source == "tinyshakespeare":
        return _single(source, _file(fetch_tinyshakespeare(cache_directory())))
    if source == "plays":
        text = render_plays()
        return _single(source, Part(source, partial(_encoded, text), partial(_from_memory, text)))
    if source == "auto":
        return _load_auto()
    path = Path(source)
    return _folder(path) if path.is_dir() else _single(absolute(source), _file(path))


def _encoded(text: str) -> list[bytes]:
    return [text.encode()]


def _from_memory(text: str, on_read: OnRead) -> Iterator[str]:
    on_read(text.encode())
    yield text


def _single(name: str, part: Part) -> Corpus:
    return Corpus(name, f"data.text ({part.source})", [part])


def _folder(path: Path) -> Corpus:
    folder = open_folder(path)
    part = Part(str(path), folder.raw_chunks, folder.chunks)
    return Corpus(absolute(str(path)), f"data.text ({path})", [part], folder.alphabet, folder.ids["train.bin"])


def _load_auto() -> Corpus:
    try:
        return load_corpus("tinyshakespeare")
    except ConfigError:
        if not has_plays():
            raise
        log.warning(
            "text: Tiny Shakespeare is neither cached nor downloadable: using `plays` instead, "
            "whose losses are not comparable with Tiny Shakespeare's"
        )
        return load_corpus("plays")


def _file(path: Path) -> Part:
    if path.is_fifo() or path.is_char_device():
        raise ConfigError(f"data.text ({path}) must be a regular file, because it is read more than once")
    label = f"data.text ({path})"
    raw_chunks = partial(read_chunks, path, label)
    return Part(str(path), raw_chunks, partial(_decoded, raw_chunks, label))


def _decoded(raw_chunks: Callable[[], Iterator[bytes]], label: str, on_read: OnRead) -> Iterator[str]:
    return decode_utf8(with_callback(raw_chunks(), on_read), label)


def _files(source: str) -> list[Path]:
    """Returns the files of a path or pattern in a list of several."""
    if is_pattern(source):
        return matching_files(source)
    path = Path(source)
    if source in KEYWORDS or path.is_dir():
        raise ConfigError(f"data.text ({source}) must be given alone, because only files can be combined into one text")
    return [path]
