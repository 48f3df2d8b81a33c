"""Tokens per second and MFU, with a simulated clock."""

import math
import timeit
from pathlib import Path

import pytest
import torch
from lightning.pytorch.plugins import Precision
from support.bare_trainer import fit, tiny
from support.command_line import TINY, VERSE, rows
from support.precisions import PRODUCT_DTYPES

from chargpt_lightning import CharGPT
from chargpt_lightning.callbacks import throughput
from chargpt_lightning.callbacks.throughput import matmul_flop_per_s


class Clock:
    """Advances only during the methods given to `advance_by`."""

    def __init__(self):
        self.now_s = 0.0

    def perf_counter(self):
        return self.now_s

    def advance_by(self, seconds, method):
        def advancing(*args):
            self.now_s += seconds
            return method(*args)

        return advancing


@pytest.fixture
def clock(monkeypatch):
    """An update takes two seconds, a batch of an evaluation a hundred; a device makes a million operations a second."""
    clock = Clock()
    monkeypatch.setattr(throughput, "time", clock)
    monkeypatch.setattr(throughput, "matmul_flop_per_s", lambda device, dtype: 1e6)
    monkeypatch.setattr(CharGPT, "training_step", clock.advance_by(2, CharGPT.training_step))
    monkeypatch.setattr(CharGPT, "validation_step", clock.advance_by(100, CharGPT.validation_step))
    return clock


@pytest.mark.parametrize("accumulated", [1, 2])
def test_each_evaluation_logs_the_speed_of_the_updates_since_the_last_one(run, clock, accumulated):
    settings = ["--trainer.accumulate_grad_batches", str(accumulated), "--trainer.max_steps", "4"]
    assert run(*TINY, *settings).code == 0
    evaluations = [row for row in rows(Path("runs/version_0")) if row["val/loss"]]
    assert [row["tokens_per_second"] for row in evaluations[:1]] == [""], "there is none before the first update"
    tokens_per_s = 2 * 8 / 2  # two windows of eight characters in two seconds
    flop = 6 * (8 * 24 + 8 * 8 + 2 * 8 * 32 + 8 * len(set(VERSE))) + 12 * 8 * 8
    for row in evaluations[1:]:
        assert float(row["tokens_per_second"]) == tokens_per_s
        assert float(row["mfu"]) == pytest.approx(tokens_per_s * flop / 1e6)
    assert len(evaluations) > 2


def test_the_measured_rate_is_that_of_a_matrix_product():
    """Within a factor of 5, in one of ten tries: other processes may take the cores at any moment."""
    factor, ratios = torch.ones(1024, 1024), []
    for _ in range(10):
        elapsed_s = min(timeit.repeat(lambda: factor @ factor, number=1, repeat=5))
        ratios.append(matmul_flop_per_s(torch.device("cpu"), torch.float32) * elapsed_s / (2 * 1024**3))
        if 0.2 < ratios[-1] < 5:
            return
    raise AssertionError(f"the measured rate is {ratios} times that of a product of 1024 x 1024 matrices")


def test_the_rate_is_that_of_the_products_that_memory_suffices_for(monkeypatch):
    measured = throughput._matmul_s

    def only_small(factor):
        if len(factor) > 256:
            raise torch.OutOfMemoryError
        return measured(factor)

    monkeypatch.setattr(throughput, "MIN_MATMUL_S", 10)
    monkeypatch.setattr(throughput, "_matmul_s", only_small)
    assert matmul_flop_per_s(torch.device("cpu"), torch.float32) > 0
    monkeypatch.setattr(throughput, "MATMUL_SIZES", (512,))
    assert math.isnan(matmul_flop_per_s(torch.device("cpu"), torch.float32))


@pytest.mark.parametrize(("precision", "dtype"), PRODUCT_DTYPES.items())
def test_the_device_is_measured_in_the_dtype_of_the_run(run, monkeypatch, precision, dtype):
    measured = []
    monkeypatch.setattr(throughput, "matmul_flop_per_s", lambda device, dtype: measured.append(dtype) or 1e6)
    assert run(*TINY, "--trainer.precision", precision).code == 0
    assert measured == [dtype]


class LayersOfItsOwn(Precision):
    """Replaces layers of the network with its own, as Transformer Engine does."""

    class Linear(torch.nn.Module):
        def __init__(self, linear):
            super().__init__()
            self.weight, self.multiply = linear.weight, linear.forward

        def forward(self, x):
            return self.multiply(x)

    def convert_module(self, module):
        for block in module.gpt.transformer.h:
            block.mlp.c_fc = self.Linear(block.mlp.c_fc)
        return module


def test_operations_are_counted_also_if_the_precision_replaces_layers(clock):
    evaluated = {"check_val_every_n_epoch": None, "val_check_interval": 2, "callbacks": [throughput.Throughput()]}
    plain, other = (fit(tiny(), **evaluated, plugins=plugins).callback_metrics for plugins in ([], [LayersOfItsOwn()]))
    assert plain["mfu"] == other["mfu"] > 0
