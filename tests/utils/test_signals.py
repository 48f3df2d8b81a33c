"""Ctrl-C, SIGTERM and SIGHUP as an exception with a shell's exit code; none is lost during imports."""

import os
import signal
import subprocess
import sys

import pytest
from support.command_line import TINY
from support.platforms import posix

from chargpt_lightning import GPT
from chargpt_lightning.utils.signals import (
    Stopped,
    leave_closed_terminal,
    leave_signals_to_parent,
    stop_on_signals,
    stop_signals,
)

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
if sys.platform != "win32":
    CODES[signal.SIGHUP] = 129


@pytest.mark.parametrize(
    ("subcommand", "method", "out"), [("validate", "forward", ""), ("predict", "next_logits", "\n")]
)
def test_a_signal_ends_validate_and_predict_at_once(run, tiny_run, monkeypatch, subcommand, method, out):
    monkeypatch.setattr(GPT, method, lambda gpt, *args: signal.raise_signal(signal.SIGTERM))
    result = run(subcommand)
    assert (result.code, result.out) == (143, out)
    assert "Traceback" not in result.err


@pytest.mark.parametrize(("signum", "code"), CODES.items())
def test_a_signal_raises_stopped_and_the_handlers_are_restored(signum, code):
    before = [signal.getsignal(number) for number in CODES]
    with pytest.raises(Stopped) as stopped, stop_on_signals():
        signal.raise_signal(signum)
    assert stopped.value.exit_code == code
    assert [signal.getsignal(number) for number in CODES] == before


def test_stopped_is_not_caught_as_a_failure():
    assert not issubclass(Stopped, Exception)


def test_a_stopped_run_restores_the_handlers(run, interrupt):
    before = [signal.getsignal(number) for number in CODES]
    interrupt(2)
    assert run(*TINY).code == 130
    assert [signal.getsignal(number) for number in CODES] == before


@pytest.mark.parametrize("signum", CODES)
def test_a_signal_that_is_ignored_stays_ignored(signum):
    """As nohup does with SIGHUP, and a shell with Ctrl-C for a script's background jobs."""
    before = signal.signal(signum, signal.SIG_IGN)
    try:
        with stop_on_signals():
            assert set(stop_signals()) == CODES.keys() - {signum}
            signal.raise_signal(signum)
    finally:
        signal.signal(signum, before)


def test_a_worker_ends_on_sigterm_only():
    before = {signum: signal.getsignal(signum) for signum in CODES}
    try:
        leave_signals_to_parent(0)
        assert stop_signals() == [signal.SIGTERM]
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems close a terminal in other ways")
def test_messages_to_a_closed_terminal_are_discarded(capfd):
    controller, terminal = os.openpty()
    stderr = os.dup(2)
    os.dup2(terminal, 2)
    os.close(controller)
    try:
        with pytest.raises(OSError, match="Input/output error"):
            os.write(2, b"lost")
        leave_closed_terminal()
        os.write(2, b"discarded")
    finally:
        os.dup2(stderr, 2)
    print("shown", file=sys.stderr)
    assert capfd.readouterr().err == "shown\n"


SCRIPT = "from chargpt_lightning.__main__ import main; main()"
MODULE = "runpy.run_module('chargpt_lightning', run_name='__main__', alter_sys=True)"
DURING_IMPORTS = """
import runpy, signal, sys

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            signal.raise_signal({signum})

sys.meta_path.insert(0, Interrupt())
sys.argv = ["chargpt", "fit"]
{start}
"""


@posix
@pytest.mark.parametrize("start", [SCRIPT, MODULE], ids=["chargpt", "python -m"])
@pytest.mark.parametrize(("signum", "code"), CODES.items())
def test_a_signal_during_imports_ends_the_command_without_a_traceback(signum, code, start):
    script = DURING_IMPORTS.format(signum=int(signum), start=start)
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout, ended.stderr) == (code, "", "")


def test_importing_the_package_leaves_signals_alone_and_is_quick():
    script = "import signal, sys; import chargpt_lightning, chargpt_lightning.__main__; "
    script += "print(signal.getsignal(signal.SIGINT) is signal.default_int_handler, 'torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", script], text=True, timeout=60) == "True False\n"
