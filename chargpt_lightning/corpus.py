"""Where the text comes from: a file, Tiny Shakespeare from the network or the cache, or the packaged plays."""

import hashlib
import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pooch

from chargpt_lightning.errors import ConfigError
from chargpt_lightning.plays import render_plays

log = logging.getLogger(__name__)

TINYSHAKESPEARE_URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
TINYSHAKESPEARE_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
CONNECT_TIMEOUT_S = 10
READ_TIMEOUT_S = 30


@dataclass(frozen=True)
class Corpus:
    """A text and what it is called.

    Args:
        name: `tinyshakespeare`, `plays`, or the absolute path of a file.
        text: All of its characters.
    """

    name: str
    text: str

    @cached_property
    def sha256(self) -> str:
        """The SHA-256 of the text in UTF-8, in hexadecimal."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def load_corpus(source: str) -> Corpus:
    """Finds a text.

    Args:
        source: `tinyshakespeare`, `plays`, `auto` (the first of the two that is to be had), or a path to a file.

    Raises:
        ConfigError: If the file or the download cannot be had, is empty, or is not UTF-8.
    """
    if source == "tinyshakespeare":
        return Corpus(source, read_utf8(_fetch_tinyshakespeare(), name="data.text"))
    if source == "plays":
        return Corpus(source, render_plays())
    if source == "auto":
        return _load_shakespeare()
    path = Path(source).expanduser()
    return Corpus(str(path.absolute()), read_utf8(path, name="data.text"))


def read_utf8(path: Path, name: str) -> str:
    """The text of a file, its line ends as `\\n` and without a byte order mark.

    Args:
        path: The file.
        name: What the setting that gave the path is called in an error.

    Raises:
        ConfigError: If the file cannot be read, is empty, or is not UTF-8.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name} ({path}) must be UTF-8, but byte {error.start} is not") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{name} ({path}) must be a file that can be read, but: {reason}") from error
    if not text:
        raise ConfigError(f"{name} ({path}) must not be empty")
    return text


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
    cache = pooch.os_cache("chargpt_lightning")
    name = "tinyshakespeare.txt"
    try:
        return Path(pooch.retrieve(TINYSHAKESPEARE_URL, TINYSHAKESPEARE_SHA256, name, cache, downloader=downloader))
    except (OSError, ValueError) as error:  # requests' errors are OSErrors; a wrong checksum is a ValueError
        reason = type(error).__name__ if isinstance(error, OSError) else "the file there has another SHA-256"
        raise ConfigError(
            f"data.text (tinyshakespeare) must come from {TINYSHAKESPEARE_URL} ({reason}), "
            f"or lie ready as {cache / name}; `--data.text plays` needs no network"
        ) from error
