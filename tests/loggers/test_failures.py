"""A logger that fails is a warning, once, and the run continues."""

from pathlib import Path

import pytest
from support.command_line import TINY, rows, states
from support.failing import Failing
from support.platforms import several_devices
from support.processes import two_devices
from support.several_devices import DDP

from chargpt_lightning.loggers.failures import failures_warned

WARNING = "trainer.logger (Failing) failed, the run continues without it: no space left\n"


@pytest.mark.parametrize("method", ["log_hyperparams", "log_metrics", "save", "finalize"])
def test_a_run_continues_without_a_logger_that_fails(run, method):
    failing = ["--trainer.logger", "support.failing.Failing", "--trainer.logger.method", method]
    trained = run(*TINY, *failing)
    assert trained.code == 0, trained.err
    assert trained.err.count(WARNING) == 1
    assert len(rows(Path("runs/version_0"))) == 5 + 4
    assert states(Path("runs/version_0"))["last"]["global_step"] == 5


def test_a_logger_that_cannot_be_started_is_refused_before_training(run):
    failing = run(*TINY, "--trainer.logger", "support.failing.Failing", "--trainer.logger.method", "experiment")
    assert failing.code == 1
    assert failing.err.endswith("error: trainer.logger (Failing) must be able to log, but: no space left\n")
    assert not list(Path("runs").iterdir())


@several_devices
@pytest.mark.slow
@pytest.mark.usefixtures("for_two_devices")
@pytest.mark.parametrize("method", ["log_metrics", "finalize"])
def test_two_devices_continue_without_a_logger_that_fails(method):
    failing = ["--trainer.logger", "support.failing.Failing", "--trainer.logger.method", method]
    trained = two_devices(*TINY, *DDP, *failing)
    assert trained.code == 0, trained.err
    assert trained.err.count(WARNING) == 1
    assert len(rows(Path("runs/version_0"))) == 5 + 4


def test_an_interrupt_is_no_failure_of_a_logger():
    with pytest.raises(KeyboardInterrupt), failures_warned(Failing("save")):
        raise KeyboardInterrupt
