"""Turns Ctrl-C, SIGTERM and SIGHUP into an exception."""

import os
import signal
from collections.abc import Callable, Iterator
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


def stop_signals() -> list[signal.Signals]:
    """Returns the signals that stop this process: Ctrl-C's, SIGTERM and SIGHUP, which Windows does not have.

    Those that are ignored are left out: SIGHUP under nohup, Ctrl-C's in a script's background jobs.
    """
    found = [number for number in signal.Signals if number.name in ("SIGHUP", "SIGINT", "SIGTERM")]
    return [signum for signum in found if signal.getsignal(signum) is not signal.SIG_IGN]


def stop_now(signum: int, frame: FrameType | None) -> NoReturn:
    """Signal handler that raises Stopped, with the exit code that shells use for the signal."""
    leave_closed_terminal()
    raise Stopped(SIGNAL_EXIT_BASE + signum)


def exit_now(signum: int, frame: FrameType | None) -> NoReturn:
    """Signal handler that ends the process with that exit code: during imports, an exception could get lost."""
    os._exit(SIGNAL_EXIT_BASE + signum)


@contextmanager
def stop_on_signals(handler: Callable[[int, FrameType | None], NoReturn] = stop_now) -> Iterator[None]:
    """Makes the stop signals call a handler, until the context ends."""
    before = {signum: signal.signal(signum, handler) for signum in stop_signals()}
    try:
        yield
    finally:
        for signum, previous in before.items():
            signal.signal(signum, previous)


def leave_signals_to_parent(worker: int) -> None:
    """Ignores Ctrl-C and SIGHUP in a worker process: a terminal sends them to all, but the parent ends its workers."""
    for signum in stop_signals():
        if signum != signal.SIGTERM:
            signal.signal(signum, signal.SIG_IGN)


def leave_closed_terminal() -> None:
    """Discards stdout and stderr from here on if their terminal was closed: printing a message would raise OSError."""
    for descriptor in (1, 2):
        try:
            os.write(descriptor, b"")
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
