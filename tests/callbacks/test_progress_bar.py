"""The progress line counts updates, also those of a resumed run."""

import math
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.command_line import TINY, states
from support.platforms import posix


def pretend_a_terminal(monkeypatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setattr("tqdm.std.tqdm.monitor_interval", 0)  # its thread would outlive the test


def test_the_line_counts_updates_with_the_loss_of_each(run, monkeypatch):
    pretend_a_terminal(monkeypatch)
    result = run(*TINY, "--trainer.accumulate_grad_batches", "2")
    last = result.err.split("\r")[-1]
    line = re.search(r"step: 100%.* 5/5 .*loss (\d\.\d{3}), lr \d\.\de-\d\d, [\d,]+ tokens/s", last)
    assert line is not None
    assert float(line[1]) == pytest.approx(math.log(21), abs=0.3), "it must be the mean of all batches of the update"


def test_the_line_of_a_resumed_run_starts_at_its_step(run, tiny_run, monkeypatch):
    pretend_a_terminal(monkeypatch)
    result = run("fit", "--ckpt_path", "last", "--trainer.max_steps", "8")
    drawn = re.findall(r"step: .*? (\d)/8 ", result.err)
    assert (drawn[0], drawn[-1]) == ("5", "8")


def test_there_is_no_line_without_a_terminal(run):
    assert "step: " not in run(*TINY).err


@posix
@pytest.mark.slow
def test_a_terminal_that_is_closed_does_not_end_the_run():
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "chargpt_lightning", *TINY, "--trainer.max_steps", "200"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=theirs, preexec_fn=ignore_hangup) as process:
        os.close(theirs)
        while b"step 2:" not in os.read(ours, 2**16):
            pass
        os.close(ours)
        assert process.wait(timeout=120) == 0
    assert states(Path("runs/version_0"))["last"]["global_step"] == 200


def ignore_hangup() -> None:
    """As nohup does."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
