"""Where the text comes from: files, a folder of nanoGPT's, Tiny Shakespeare (downloaded once), the packaged plays."""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pooch

from chargpt_lightning.data.nanogpt import open_folder
from chargpt_lightning.data.shakespeare import fetch_tinyshakespeare, render_plays
from chargpt_lightning.data.text_files import (
    Seen,
    absolute,
    decode_utf8,
    expanded,
    is_pattern,
    matching_files,
    not_empty,
    read_chunks,
    watched,
)
from chargpt_lightning.utils.errors import ConfigError

log = logging.getLogger(__name__)

NO_FILES = ("tinyshakespeare", "plays", "auto")
BETWEEN_FILES = b"\xfe"  # which UTF-8 never has


@dataclass(frozen=True)
class Part:
    """What is read in one go: a file, or whatever else is a whole text.

    What reads it starts anew at each call, and raises a ConfigError if that cannot be done.

    Args:
        source: The path or name by which an error says where it lies.
        raw_chunks: Gives the bytes that decide its characters; two texts with the same ones are the same.
        chunks: Gives its characters, and shows its argument the bytes that it reads for them: `raw_chunks`, unless
            they have changed.
    """

    source: str
    raw_chunks: Callable[[], Iterable[bytes]]
    chunks: Callable[[Seen], Iterator[str]]


@dataclass(frozen=True)
class Corpus:
    """A text that is read piece by piece, for it may be larger than memory.

    Args:
        name: `tinyshakespeare`, `plays`, the absolute path of a file or folder, an absolute pattern, or a list of
            paths and patterns.
        said: What an error calls it: `data.text (my.txt)`.
        parts: The files that it is made of, one after the other.
        alphabet: All characters in the order of their ids, where the text says so; None takes those that occur.
        train_characters: How many train before the rest validates, where the text says so; None is nine tenths.
    """

    name: str | list[str]
    said: str
    parts: Sequence[Part]
    alphabet: str | None = None
    train_characters: int | None = None

    def raw_chunks(self) -> Iterator[bytes]:
        """The bytes that decide its characters; two texts with the same ones are the same."""
        for number, part in enumerate(self.parts):
            if number:
                yield BETWEEN_FILES
            yield from part.raw_chunks()

    def pieces(self, seen: Seen) -> Iterator[tuple[str, int, str]]:
        """The characters in pieces, each behind the source of its part and its position there.

        Args:
            seen: Is shown the bytes of this reading, which are `raw_chunks` unless the text has changed.
        """
        for number, part in enumerate(self.parts):
            if number:
                seen(BETWEEN_FILES)
            position = 0
            for chunk in part.chunks(seen):
                yield part.source, position, chunk
                position += len(chunk)

    def chunks(self, seen: Seen = lambda raw: None) -> Iterator[str]:
        """The characters, at least one in all; `seen` is shown the bytes of this reading."""
        return not_empty((chunk for _, _, chunk in self.pieces(seen)), self.said)


def load_corpus(text: str | list[str]) -> Corpus:
    """Finds a text.

    Args:
        text: `tinyshakespeare`, `plays`, `auto` (the first of the two that is to be had), the path of a file or of a
            folder of nanoGPT's, a pattern of files (`books/*.txt`), or a list of paths and patterns, whose files make
            one text; a list of one is that one.

    Raises:
        ConfigError: If the download cannot be had, or a path is of something that can be read only once, or of a
            folder that is none of nanoGPT's, or if a pattern matches no file, or if what stands in a list is no file.
    """
    sources = [text] if isinstance(text, str) else text
    if len(sources) == 1 and not is_pattern(sources[0]):
        return _load_one(sources[0])
    if not sources:
        raise ConfigError("data.text ([]) must name at least one file")
    names = [absolute(source) for source in sources]
    parts = [_file(path) for source in sources for path in _files(source)]
    return Corpus(names if len(names) > 1 else names[0], f"data.text ({brief(sources)})", parts)


def brief(names: str | list[str]) -> str:
    """A text's name for a line: of several files the first and the number of the others."""
    names = [names] if isinstance(names, str) else names
    return f"{names[0]} and {len(names) - 1} more" if len(names) > 1 else names[0]


def cache_directory() -> Path:
    """Where the user's caches lie: below XDG_CACHE_HOME, or where the system has them."""
    place = os.environ.get("XDG_CACHE_HOME")  # which pooch heeds on Linux only
    return Path(place, "chargpt_lightning") if place else Path(pooch.os_cache("chargpt_lightning"))


def _load_one(source: str) -> Corpus:
    if source == "tinyshakespeare":
        return _whole(source, _file(fetch_tinyshakespeare(cache_directory())))
    if source == "plays":
        text = render_plays()
        return _whole(source, Part(source, lambda: [text.encode()], partial(_from_memory, text)))
    if source == "auto":
        return _load_shakespeare()
    path = expanded(source)
    return _folder(path) if path.is_dir() else _whole(absolute(source), _file(path))


def _from_memory(text: str, seen: Seen) -> Iterator[str]:
    seen(text.encode())
    yield text


def _whole(name: str, part: Part) -> Corpus:
    return Corpus(name, f"data.text ({part.source})", [part])


def _folder(path: Path) -> Corpus:
    folder = open_folder(path)
    part, border = Part(str(path), folder.raw_chunks, folder.chunks), folder.ids["train.bin"]
    return Corpus(absolute(str(path)), f"data.text ({path})", [part], folder.alphabet, border)


def _load_shakespeare() -> Corpus:
    try:
        return load_corpus("tinyshakespeare")
    except ConfigError:
        log.warning(
            "text: Tiny Shakespeare is neither cached nor downloadable: taking `plays` instead, "
            "whose figures are not comparable with Tiny Shakespeare's"
        )
        return load_corpus("plays")


def _file(path: Path) -> Part:
    if path.is_fifo() or path.is_char_device():
        raise ConfigError(f"data.text ({path}) must be a file, because it is read more than once")
    said = f"data.text ({path})"
    raw_chunks = partial(read_chunks, path, said)
    return Part(str(path), raw_chunks, lambda seen: decode_utf8(watched(raw_chunks(), seen), said))


def _files(source: str) -> list[Path]:
    """The files that a path or a pattern names, where other files are to stand beside them."""
    if is_pattern(source):
        return matching_files(source)
    path = expanded(source)
    if source in NO_FILES or path.is_dir():
        raise ConfigError(f"data.text ({source}) must stand alone, because only files make one text together")
    return [path]
