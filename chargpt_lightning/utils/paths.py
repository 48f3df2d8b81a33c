"""`~` in paths."""

import os


def expand_user(path: str) -> str:
    """Returns the path with `~` expanded to the home directory; `~name` of an unknown user is left unchanged."""
    return os.path.expanduser(path)  # noqa: PTH111  Path.expanduser raises RuntimeError for an unknown user
