"""Ctrl-C and SIGTERM as an exception with a shell's exit code."""

import signal

import pytest
from support.command_line import TINY

from chargpt_lightning import GPT
from chargpt_lightning.utils.signals import Stopped, stop_on_signals


@pytest.mark.parametrize(
    ("subcommand", "method", "out"), [("validate", "forward", ""), ("predict", "next_logits", "\n")]
)
def test_a_signal_ends_validate_and_predict_at_once(run, tiny_run, monkeypatch, subcommand, method, out):
    monkeypatch.setattr(GPT, method, lambda gpt, *args: signal.raise_signal(signal.SIGTERM))
    result = run(subcommand)
    assert (result.code, result.out) == (143, out)
    assert "Traceback" not in result.err


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_raises_stopped_and_the_handlers_are_restored(signum, code):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(Stopped) as stopped, stop_on_signals():
        signal.raise_signal(signum)
    assert stopped.value.exit_code == code
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_stopped_is_not_caught_as_a_failure():
    assert not issubclass(Stopped, Exception)


def test_a_stopped_run_restores_the_handlers(run, interrupt):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    interrupt(2)
    assert run(*TINY).code == 130
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
