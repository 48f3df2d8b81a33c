"""The losses of updates, read in time; the mean loss of an evaluation, exact for any number of characters."""

import math

import pytest
import torch

from chargpt_lightning.models.loss import MOST_UNREAD, MeanLoss, UpdateLosses

ELSEWHERE = torch.device("meta")  # a device whose tensors cannot be read


def test_on_a_cpu_each_update_is_read():
    losses = UpdateLosses()
    for step, (a, b) in enumerate([(1.0, 2.0), (4.0, 7.0)]):
        losses.add(torch.tensor(a))
        losses.add(torch.tensor(b))
        assert losses.end_update(step, is_logged=False) == (a + b) / 2


def test_elsewhere_only_what_is_logged_or_too_much_is_read():
    losses = UpdateLosses()
    for step in range(MOST_UNREAD - 1):
        losses.add(torch.tensor(1.0, device=ELSEWHERE))
        assert math.isnan(losses.end_update(step, is_logged=False))
    losses.add(torch.tensor(1.0, device=ELSEWHERE))
    with pytest.raises(NotImplementedError, match="Cannot copy out of meta tensor"):
        losses.end_update(MOST_UNREAD, is_logged=False)


def test_the_first_update_that_is_not_finite_is_named():
    losses = UpdateLosses()
    for step, loss in enumerate([1.0, math.inf, math.nan]):
        losses.add(torch.tensor(loss))
        losses._unread.append((step, [losses._micro_losses.pop()]))
    for _ in range(2):  # also for the checkpoint that is saved because of the error
        with pytest.raises(FloatingPointError, match=r"train/loss \(inf\) at step 1 must be finite"):
            losses.read()


def test_a_read_within_an_update_leaves_its_micro_batches():
    losses = UpdateLosses()
    losses.add(torch.tensor(1.0))
    losses.read()
    losses.add(torch.tensor(2.0))
    assert losses.end_update(0, is_logged=True) == 1.5


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
