"""TensorBoard shows the figures of metrics.csv, and names each run by its path."""

import json
import subprocess
import sys
import time
from socket import socket
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest

pytest.importorskip("tensorboard")

from support.command_line import TINY
from support.other_loggers import (
    LOGGED,
    TENSORBOARD,
    in_csv,
    in_tensorboard,
    samples_in_tensorboard,
)


def test_tensorboard_has_every_figure_of_metrics_csv_and_a_sample_at_each_evaluation(run):
    assert run(*TINY, *TENSORBOARD).code == 0
    assert in_csv().keys() == LOGGED
    assert in_tensorboard() == in_csv()
    assert list(samples_in_tensorboard()) == [step for step, _ in in_csv()["val/loss"]] == [0, 2, 4, 5]


@pytest.mark.slow  # it starts a server
def test_tensorboards_own_server_shows_runs_by_their_paths(run):
    for _ in range(2):
        assert run(*TINY, *TENSORBOARD).code == 0
    with socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen([sys.executable, "-m", "tensorboard.main", "--logdir", "runs", "--port", str(port)])
    try:
        assert sorted(answer(port, "runs")) == ["version_0", "version_1"]
        tags = answer(port, "plugin/scalars/tags")
        assert tags["version_1"].keys() >= LOGGED
        assert answer(port, "plugin/text/tags")["version_0"] == ["sample/text_summary"]
    finally:
        server.terminate()
        server.wait()


def answer(port: int, what: str) -> Any:
    """The server's answer, once it has started."""
    for _ in range(120):
        try:
            with urlopen(f"http://127.0.0.1:{port}/data/{what}") as reply:
                if content := json.load(reply):
                    return content
        except URLError:
            pass
        time.sleep(0.5)
    raise AssertionError(f"no {what} after a minute")
