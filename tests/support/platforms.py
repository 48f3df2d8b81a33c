"""What some systems cannot do, and a disk that is full."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


def not_on_windows(reason: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(sys.platform == "win32", reason=f"Windows: {reason}")


posix = not_on_windows("no such signals, pipes, limits and rights")
compiles = not_on_windows("torch.compile takes Visual C++ set up in the shell")
several_devices = not_on_windows("torch starts no several devices, its torchrun and TCPStore lack libuv")


@contextmanager
def full_disk() -> Iterator[None]:
    """No file grows beyond what the small ones need: a write beyond it is an OSError, as on a full disk."""
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
