"""The mean loss of an evaluation: exact for any number of characters."""

import math

import torch

from chargpt_lightning.models.loss import MeanLoss


def test_the_mean_over_many_characters_is_exact():
    """At 67 million nats float32 numbers are 8 apart: float32 would lose each of the thousand nats added then."""
    mean_loss = MeanLoss()
    mean_loss.begin(torch.device("cpu"))
    mean_loss.update(torch.tensor(4.0).expand(2**24))
    for _ in range(1001):
        mean_loss.update(torch.tensor([1.0]))
    loss, characters = mean_loss.compute()
    assert characters == 2**24 + 1001
    assert loss.item() == (2**26 + 1001) / (2**24 + 1001)


def test_a_nan_is_not_averaged_away():
    mean_loss = MeanLoss()
    mean_loss.begin(torch.device("cpu"))
    mean_loss.update(torch.tensor([1.0, math.nan]))
    mean_loss.update(torch.tensor([1.0]))
    assert math.isnan(mean_loss.compute()[0])


def test_for_a_macs_gpu_the_sum_is_on_the_cpu():
    mean_loss = MeanLoss()
    mean_loss.begin(torch.device("mps"))
    assert mean_loss.total.device.type == "cpu"
