"""The mean loss of an evaluation: exact for any number of characters."""

import math

import torch

from chargpt_lightning.models.loss import MeanLoss


def test_a_sum_of_any_length_loses_nothing():
    """Of 67 million nats the neighbors in float32 are 8 apart: it would not see one of the thousand nats after them."""
    mean_loss = MeanLoss()
    mean_loss.begin(torch.device("cpu"))
    mean_loss.update(torch.tensor(4.0).expand(2**24))
    for _ in range(1001):
        mean_loss.update(torch.tensor([1.0]))
    loss, characters = mean_loss.compute()
    assert characters == 2**24 + 1001
    assert loss.item() == (2**26 + 1001) / (2**24 + 1001)


def test_not_a_number_stays_one():
    mean_loss = MeanLoss()
    mean_loss.begin(torch.device("cpu"))
    mean_loss.update(torch.tensor([1.0, math.nan]))
    mean_loss.update(torch.tensor([1.0]))
    assert math.isnan(mean_loss.compute()[0])


def test_a_macs_gpu_has_the_cpu_sum_in_float64():
    mean_loss = MeanLoss()
    mean_loss.begin(torch.device("mps"))
    assert mean_loss.total.device.type == "cpu"
