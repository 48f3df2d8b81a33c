"""The page of `play` in a process of its own."""

import socket
import time
from collections.abc import Callable, Iterator

import pytest
from support.processes import MODULE, Python


@pytest.fixture(scope="module")
def serve() -> Iterator[Callable[..., tuple[Python, str]]]:
    """Serves the page on a free port; returns the process and the address, once the page can be opened."""
    processes = []

    def serve(*args: str, **environment: str) -> tuple[Python, str]:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        processes.append(process := Python(*MODULE, "play", "--port", str(port), *args, **environment))
        address = f"http://127.0.0.1:{port}/"
        while f"page: {address} (Ctrl-C ends it)\n" not in process.err:
            assert process.is_running(), process.err
            time.sleep(0.1)
        return process, address

    yield serve
    for process in processes:
        process.kill()
