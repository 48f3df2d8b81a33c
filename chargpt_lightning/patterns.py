"""Paths and patterns of files: which files they name."""

import os
from glob import escape, glob
from pathlib import Path

from chargpt_lightning.errors import ConfigError


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
