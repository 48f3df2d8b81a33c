"""Marks for tests that some systems or installations cannot run, and a full disk."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import pytest


def not_on_windows(reason: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(sys.platform == "win32", reason=f"Windows: {reason}")


posix = not_on_windows("no such signals, pipes, limits and permissions")
compiles = not_on_windows("torch.compile needs Visual C++ set up in the shell")
several_devices = not_on_windows("torch cannot start several devices, because torchrun and TCPStore lack libuv")


def needs(package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(find_spec(package) is None, reason=f"{package}, of an extra, is not installed")


@contextmanager
def full_disk() -> Iterator[None]:
    """Limits files to 10 kB: a write beyond it raises OSError, as on a full disk."""
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
