"""Samples: as `predict` writes them, and as TensorBoard and W&B get them at each evaluation."""

import io
import signal
import time

import pytest

pytest.importorskip("tensorboard")

import torch
from support.command_line import TINY
from support.other_loggers import RUN, TENSORBOARD, samples_in_tensorboard
from support.platforms import posix
from support.processes import MODULE, Python


def test_stdout_has_only_the_samples_and_they_are_reproducible(run, tiny_run):
    args = ["predict", "--sample.num_samples", "3", "--sample.max_new_tokens", "20", "--sample.prompt", "W"]
    first, second = run(*args), run(*args)
    assert first.out == second.out
    samples = first.out.removesuffix("\n").split("\n---------------\n")
    assert [len(sample) for sample in samples] == [21, 21, 21]
    assert len(set(samples)) == 3
    alone = run(*args, "--sample.num_samples", "1")
    assert alone.out == samples[0] + "\n"
    other = run(*args, "--sample.seed", "1")
    assert other.out != first.out


@posix
def test_a_sample_is_written_while_it_is_drawn(tiny_run):
    process = Python(*MODULE, "predict", "--start=When ", "--max_new_tokens=1000000")
    while process.is_running() and not (first := process.out):
        time.sleep(0.001)
    process.kill()
    result = process.result()
    assert result.code == -signal.SIGKILL, f"it ended by itself: {result.err}"
    assert first.startswith("When ")
    assert len(first) < io.DEFAULT_BUFFER_SIZE, "it was held back until a buffer was full"


def test_a_logged_sample_is_the_first_that_predict_writes(run):
    sampling = ["--sample.prompt", "When shall", "--sample.temperature", "0.7", "--sample.max_new_tokens", "40"]
    assert run(*TINY, *sampling, *TENSORBOARD).code == 0
    last = ["--ckpt_path", "last", "--sample.num_samples", "1", "--trainer.accelerator", "cpu"]
    assert run("predict", *last, *sampling).out == samples_in_tensorboard()[5] + "\n"


@pytest.mark.parametrize("steps", [2, 5])
def test_a_logged_sample_is_drawn_with_the_averaged_weights(run, steps):
    """It is not the sample of the weights that are trained."""
    average = ["--trainer.callbacks", "EMAWeightAveraging", "--trainer.callbacks.decay", "0.8"]
    length, fast = ["--sample.max_new_tokens", "60"], ["--model.learning_rate", "0.3", "--model.warmup_iters", "0"]
    assert run(*TINY, *average, *fast, *length, "--trainer.max_steps", str(steps), *TENSORBOARD).code == 0
    last = ["--ckpt_path", "last", "--sample.num_samples", "1", "--trainer.accelerator", "cpu"]
    logged = samples_in_tensorboard()[steps] + "\n"
    assert run("predict", *last, *length).out == logged
    path = RUN / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(path)
    torch.save(checkpoint | {"state_dict": checkpoint["current_model_state"]}, path)
    assert run("predict", *last, *length).out != logged


def test_a_logged_sample_is_short(run):
    assert run(*TINY, *TENSORBOARD).code == 0
    assert {len(text) for text in samples_in_tensorboard().values()} == {len("\n") + 200}


def test_logging_samples_does_not_change_the_training(run):
    assert run(*TINY, "--model.dropout", "0.3").code == 0
    assert run(*TINY, "--model.dropout", "0.3", *TENSORBOARD).code == 0
    alone, watched = (torch.load(f"runs/version_{n}/checkpoints/last.ckpt")["state_dict"] for n in (0, 1))
    assert all(torch.equal(alone[name], watched[name]) for name in alone)
