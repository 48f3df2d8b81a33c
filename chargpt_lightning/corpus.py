"""Where the text comes from: a file, Tiny Shakespeare from the network or the cache, or the packaged plays."""

import codecs
import io
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import pooch

from chargpt_lightning.errors import ConfigError
from chargpt_lightning.plays import render_plays

log = logging.getLogger(__name__)

TINYSHAKESPEARE_URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
TINYSHAKESPEARE_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
CONNECT_TIMEOUT_S = 10
READ_TIMEOUT_S = 30
CHUNK_BYTES = 2**18  # what is made of it stays in a core's own cache


@dataclass(frozen=True)
class Corpus:
    """A text that is read piece by piece, for it may be larger than memory.

    Args:
        name: `tinyshakespeare`, `plays`, or the absolute path of a file.
        said: What an error calls it: `data.text (my.txt)`.
        open: Gives its bytes from the start, each time it is called.
    """

    name: str
    said: str
    open: Callable[[], BinaryIO]

    def raw_chunks(self) -> Iterator[bytes]:
        """Its bytes as they are.

        Raises:
            ConfigError: If they cannot be read.
        """
        try:
            with self.open() as stream:
                while raw := stream.read(CHUNK_BYTES):
                    yield raw
        except (OSError, ValueError) as error:  # a NUL in the path is a ValueError
            reason = getattr(error, "strerror", None) or error
            raise ConfigError(f"{self.said} must be a file that can be read, but: {reason}") from error

    def chunks(self) -> Iterator[str]:
        """Its characters, line ends as `\\n` and without a byte order mark.

        Raises:
            ConfigError: If they cannot be read, are not UTF-8, or there are none.
        """
        decoder = codecs.getincrementaldecoder("utf-8-sig")()
        lines = io.IncrementalNewlineDecoder(None, translate=True)
        read = characters = 0
        returns = False
        try:
            for raw in chain(self.raw_chunks(), [b""]):
                read += len(raw)
                text = decoder.decode(raw, final=not raw)
                returns = returns or b"\r" in raw
                if returns:  # most texts have none, and looking for them among Chinese takes as long as the decoding
                    text = lines.decode(text, final=not raw)
                characters += len(text)
                yield text
        except UnicodeDecodeError as error:
            byte = read - len(error.object) + error.start  # the object is what was left of the chunks so far
            raise ConfigError(f"{self.said} must be UTF-8, but byte {byte} is not") from error
        if not characters:
            raise ConfigError(f"{self.said} must not be empty")


def load_corpus(source: str) -> Corpus:
    """Finds a text.

    Args:
        source: `tinyshakespeare`, `plays`, `auto` (the first of the two that is to be had), or a path to a file.

    Raises:
        ConfigError: If the download cannot be had, or the path is of something that can be read only once.
    """
    if source == "tinyshakespeare":
        return _file(source, _fetch_tinyshakespeare(), setting="data.text")
    if source == "plays":
        text = render_plays().encode()
        return Corpus(source, "data.text (plays)", lambda: io.BytesIO(text))
    if source == "auto":
        return _load_shakespeare()
    path = Path(source).expanduser()
    if path.is_fifo() or path.is_char_device():
        raise ConfigError(f"data.text ({path}) must be a file, because it is read more than once")
    return _file(str(path.absolute()), path, setting="data.text")


def read_utf8(path: Path, name: str) -> str:
    """The text of a file, its line ends as `\\n` and without a byte order mark.

    Args:
        path: The file.
        name: What the setting that gave the path is called in an error.

    Raises:
        ConfigError: If the file cannot be read, is empty, or is not UTF-8.
    """
    return "".join(_file(str(path), path, setting=name).chunks())


def _file(name: str, path: Path, setting: str) -> Corpus:
    return Corpus(name, f"{setting} ({path})", lambda: path.open("rb"))


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


def _fetch_tinyshakespeare() -> Path:
    """The path in the user's cache; pooch checks it, and moves a new file there only when it is whole and right."""
    pooch.get_logger().setLevel(logging.WARNING)  # the progress bar says enough
    downloader = pooch.HTTPDownloader(progressbar=True, timeout=(CONNECT_TIMEOUT_S, READ_TIMEOUT_S))
    cache = cache_directory()
    name = "tinyshakespeare.txt"
    try:
        return Path(pooch.retrieve(TINYSHAKESPEARE_URL, TINYSHAKESPEARE_SHA256, name, cache, downloader=downloader))
    except (OSError, ValueError) as error:  # requests' errors are OSErrors; a wrong checksum is a ValueError
        reason = type(error).__name__ if isinstance(error, OSError) else "the file there has another SHA-256"
        raise ConfigError(
            f"data.text (tinyshakespeare) must come from {TINYSHAKESPEARE_URL} ({reason}), "
            f"or lie ready as {cache / name}; `--data.text plays` needs no network"
        ) from error
