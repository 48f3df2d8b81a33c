"""Ctrl-C and SIGTERM, which end a process by an exception."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

SHELLS_BASE = 128  # a shell says 128 + n of a process that signal n ended


class Stopped(BaseException):
    """The end of a process that was asked to stop.

    Like KeyboardInterrupt no Exception, so that nobody takes it for a failure; unlike it, Lightning lets it through.

    Args:
        exit_code: The process's.
    """

    def __init__(self, exit_code: int) -> None:
        super().__init__()
        self.exit_code = exit_code


@contextmanager
def stop_on_signals() -> Iterator[None]:
    """Makes Ctrl-C and SIGTERM raise Stopped, at once."""
    before = {signum: signal.signal(signum, stop_now) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def stop_now(signum: int, frame: FrameType | None) -> NoReturn:
    """Handles a signal by raising Stopped with a shell's exit code for it."""
    raise Stopped(SHELLS_BASE + signum)
