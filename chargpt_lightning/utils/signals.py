"""Turns Ctrl-C and SIGTERM into an exception."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

SIGNAL_EXIT_BASE = 128  # shells report exit code 128 + n for a process that signal n ended


class Stopped(BaseException):
    """Raised to end a process that was asked to stop.

    Like KeyboardInterrupt this is not a subclass of Exception, so that it is not handled as a failure. Unlike
    KeyboardInterrupt, it is not suppressed by Lightning.

    Args:
        exit_code: The exit code of the process.
    """

    def __init__(self, exit_code: int) -> None:
        super().__init__()
        self.exit_code = exit_code


@contextmanager
def stop_on_signals() -> Iterator[None]:
    """Makes Ctrl-C and SIGTERM raise Stopped immediately, until the context ends."""
    before = {signum: signal.signal(signum, stop_now) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def stop_now(signum: int, frame: FrameType | None) -> NoReturn:
    """Signal handler that raises Stopped, with the exit code that shells use for the signal."""
    raise Stopped(SIGNAL_EXIT_BASE + signum)
