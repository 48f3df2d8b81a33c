"""A run that was stopped and resumed is the run that was never stopped, to the last bit, whatever its settings."""

import re
import shlex
from pathlib import Path

import pytest
from support.command_line import FAST, N_GRAMS, TINY, VERSE, assert_same_run
from support.nanogpt_folder import prepare
from support.platforms import compiles

RUN = [*TINY, "--trainer.max_steps", "10", "--trainer.val_check_interval", "4"]


AVERAGE = ["--trainer.callbacks", "EMAWeightAveraging", "--trainer.callbacks.decay", "0.5"]


SETTINGS = {
    "dropout": ["--model.dropout", "0.2"],
    "bf16": ["--trainer.precision", "bf16-mixed", "--trainer.gradient_clip_val", "1", "--model.dropout", "0.2"],
    "accumulated": ["--trainer.accumulate_grad_batches", "2", "--trainer.val_check_interval", "8"],
    "accumulated with dropout": ["--trainer.accumulate_grad_batches", "2", "--model.dropout", "0.2"],
    "float64": ["--trainer.precision", "64-true", "--model.dropout", "0.2"],
    "averaged in float64": [*AVERAGE, "--trainer.precision", "64-true"],
    "workers": ["--data.num_workers", "2", "--model.dropout", "0.2"],
    "averaged": [*AVERAGE, "--model.dropout", "0.2"],
    "fast": [*FAST, "--model.dropout", "0.2", "--trainer.gradient_clip_val", "1"],
    "fast in bf16, accumulated": [*FAST, "--trainer.precision", "bf16-mixed", "--trainer.accumulate_grad_batches", "2"],
    "n-grams": [*FAST, *N_GRAMS],
    "rates of every update": ["--trainer.callbacks", "LearningRateMonitor"],
}


@pytest.mark.parametrize("stop", [0, 2, 3, 4, 8])
def test_a_resumed_run_is_the_run_that_was_never_stopped(run, interrupt, stop):
    assert run(*RUN).code == 0
    interrupt(stop)
    stopped = run(*RUN)
    assert stopped.code == 130
    (command,) = re.findall(r"^resume: chargpt (.*)$", stopped.err, re.MULTILINE)
    assert run(*shlex.split(command)).code == 0
    assert_same_run(Path("runs/version_0"), Path("runs/version_1"))


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_a_run_that_is_stopped_three_times_is_the_same_whatever_its_settings(run, interrupt, settings):
    assert run(*RUN, *settings).code == 0
    interrupt(2, 3, 6)
    assert run(*RUN, *settings).code == 130
    assert run("fit", "--ckpt_path", "last").code == 130
    assert run("fit", "--ckpt_path", "last").code == 130
    assert run("fit", "--ckpt_path", "last").code == 0
    assert_same_run(Path("runs/version_0"), Path("runs/version_1"))


def test_a_run_on_a_folder_of_nanogpt_is_the_same(run, interrupt):
    prepare("nano", VERSE * 20, alphabet="z" + "".join(sorted(set(VERSE), reverse=True)), border=340)
    on_folder = [*RUN, "--data.text", "nano"]
    assert run(*on_folder).code == 0
    interrupt(3)
    assert run(*on_folder).code == 130
    resumed = run("fit", "--ckpt_path", "last")
    assert resumed.code == 0
    assert "changed" not in resumed.err
    assert_same_run(Path("runs/version_0"), Path("runs/version_1"))


@compiles
@pytest.mark.slow
@pytest.mark.parametrize("network", [[], FAST], ids=["gpt2", "fast"])
def test_a_compiled_run_is_the_same(run, interrupt, network):
    compiled = ["--model.compile", "true", "--model.dropout", "0.2", *network]
    assert run(*RUN, *compiled).code == 0
    interrupt(2, 6)
    assert run(*RUN, *compiled).code == 130
    assert run("fit", "--ckpt_path", "last").code == 130
    assert run("fit", "--ckpt_path", "last").code == 0
    assert_same_run(Path("runs/version_0"), Path("runs/version_1"))
