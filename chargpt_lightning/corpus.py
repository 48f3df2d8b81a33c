"""Where the text comes from: a file, a folder of nanoGPT's, Tiny Shakespeare (downloaded once), the packaged plays."""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pooch

from chargpt_lightning.errors import ConfigError
from chargpt_lightning.nanogpt_data import open_folder
from chargpt_lightning.plays import render_plays
from chargpt_lightning.reading import decode_utf8, read_chunks
from chargpt_lightning.tinyshakespeare import fetch_tinyshakespeare

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Corpus:
    """A text that is read piece by piece, for it may be larger than memory.

    What reads it starts anew at each call, and raises a ConfigError if that cannot be done.

    Args:
        name: `tinyshakespeare`, `plays`, or the absolute path of a file or folder.
        said: What an error calls it: `data.text (my.txt)`.
        raw_chunks: Gives the bytes that decide its characters; two texts with the same ones are the same.
        chunks: Gives its characters, at least one in all.
        alphabet: All characters in the order of their ids, where the text says so; None takes those that occur.
        train_characters: How many train before the rest validates, where the text says so; None is nine tenths.
    """

    name: str
    said: str
    raw_chunks: Callable[[], Iterable[bytes]]
    chunks: Callable[[], Iterator[str]]
    alphabet: str | None = None
    train_characters: int | None = None


def load_corpus(source: str) -> Corpus:
    """Finds a text.

    Args:
        source: `tinyshakespeare`, `plays`, `auto` (the first of the two that is to be had), or the path of a file or
            of a folder of nanoGPT's.

    Raises:
        ConfigError: If the download cannot be had, or the path is of something that can be read only once, or of a
            folder that is none of nanoGPT's.
    """
    if source == "tinyshakespeare":
        return _file(source, fetch_tinyshakespeare(cache_directory()))
    if source == "plays":
        text = render_plays()
        return Corpus(source, "data.text (plays)", lambda: [text.encode()], lambda: iter([text]))
    if source == "auto":
        return _load_shakespeare()
    path = Path(source).expanduser()
    if path.is_fifo() or path.is_char_device():
        raise ConfigError(f"data.text ({path}) must be a file, because it is read more than once")
    return _folder(path) if path.is_dir() else _file(str(path.absolute()), path)


def _file(name: str, path: Path) -> Corpus:
    said = f"data.text ({path})"
    raw_chunks = partial(read_chunks, path, said)
    return Corpus(name, said, raw_chunks, lambda: decode_utf8(raw_chunks(), said))


def _folder(path: Path) -> Corpus:
    folder = open_folder(path)
    name, said, border = str(path.absolute()), f"data.text ({path})", folder.ids["train.bin"]
    return Corpus(name, said, folder.raw_chunks, folder.chunks, folder.alphabet, border)


def cache_directory() -> Path:
    """Where the user's caches lie: below XDG_CACHE_HOME, or where the system has them."""
    return Path(pooch.os_cache("chargpt_lightning"))


def _load_shakespeare() -> Corpus:
    try:
        return load_corpus("tinyshakespeare")
    except ConfigError:
        log.warning(
            "text: Tiny Shakespeare is neither cached nor downloadable: taking `plays` instead, "
            "whose figures are not comparable with Tiny Shakespeare's"
        )
        return load_corpus("plays")
