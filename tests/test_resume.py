"""A run that was stopped and resumed is the run that was never stopped, to the last bit."""

import os
import signal
from pathlib import Path

import pytest
import torch
from conftest import TINY

from chargpt_lightning import CharGPT

RUN = [*TINY, "--trainer.max_steps", "10", "--trainer.val_check_interval", "4"]
AVERAGE = ["--trainer.callbacks", "EMAWeightAveraging", "--trainer.callbacks.decay", "0.5"]
SETTINGS = {
    "dropout": ["--model.dropout", "0.2"],
    "bf16": ["--trainer.precision", "bf16-mixed", "--trainer.gradient_clip_val", "1", "--model.dropout", "0.2"],
    "accumulated": ["--trainer.accumulate_grad_batches", "2", "--trainer.val_check_interval", "8"],
    "accumulated with dropout": ["--trainer.accumulate_grad_batches", "2", "--model.dropout", "0.2"],
    "workers": ["--data.num_workers", "2", "--model.dropout", "0.2"],
    "averaged": [*AVERAGE, "--model.dropout", "0.2"],
    "rates of every update": ["--trainer.callbacks", "LearningRateMonitor"],
}


@pytest.fixture
def interrupt(monkeypatch):
    """Makes Ctrl-C happen within the updates of these numbers, each once."""

    def at(*steps: int) -> None:
        left = set(steps)
        step = CharGPT.training_step

        def training_step(module, batch, batch_idx):
            if module.global_step in left:
                left.remove(module.global_step)
                os.kill(os.getpid(), signal.SIGINT)
            return step(module, batch, batch_idx)

        monkeypatch.setattr(CharGPT, "training_step", training_step)

    return at


def states(run_dir: Path) -> dict[str, dict]:
    return {name: torch.load(run_dir / f"checkpoints/{name}.ckpt", weights_only=True) for name in ("best", "last")}


def assert_same_run(one: Path, other: Path) -> None:
    assert (one / "metrics.csv").read_text() == (other / "metrics.csv").read_text()
    for name, state in states(one).items():
        theirs = states(other)[name]
        assert state["global_step"] == theirs["global_step"]
        for part in ("state_dict", "optimizer_states", "lr_schedulers", "loops", "current_model_state"):
            torch.testing.assert_close(theirs.get(part), state.get(part), rtol=0, atol=0)


@pytest.mark.parametrize("stop", [0, 2, 3, 4, 8])
def test_a_resumed_run_is_the_run_that_was_never_stopped(run, interrupt, stop):
    assert run(*RUN).code == 0
    interrupt(stop)
    assert run(*RUN).code == 130
    assert run("fit", "--ckpt_path", "last").code == 0
    assert_same_run(Path("runs/version_0"), Path("runs/version_1"))


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_whatever_the_settings(run, interrupt, settings):
    assert run(*RUN, *settings).code == 0
    interrupt(2, 3, 6)
    assert run(*RUN, *settings).code == 130
    assert run("fit", "--ckpt_path", "last").code == 130
    assert run("fit", "--ckpt_path", "last").code == 130
    assert run("fit", "--ckpt_path", "last").code == 0
    assert_same_run(Path("runs/version_0"), Path("runs/version_1"))
