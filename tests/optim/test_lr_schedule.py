"""The learning rate at each step, computed by hand."""

import math

import pytest

from chargpt_lightning.optim.lr_schedule import learning_rate_at

CURVE = {"learning_rate": 1.0, "min_lr": 0.1, "warmup_iters": 4, "lr_decay_iters": 12}


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0, 1 / 5),  # never 0
        (3, 4 / 5),
        (4, 1.0),  # the peak
        (6, 0.1 + 0.9 * (1 + math.cos(math.pi / 4)) / 2),
        (8, 0.55),  # half way
        (12, 0.1),
        (13, 0.1),
        (10_000, 0.1),
    ],
)
def test_warmup_cosine_and_floor(step, expected):
    assert learning_rate_at(step, **CURVE) == pytest.approx(expected, abs=1e-12)


def test_without_warmup_the_first_update_has_the_peak():
    assert learning_rate_at(0, **CURVE | {"warmup_iters": 0}) == 1.0


def test_a_warmup_longer_than_the_decay_ends_at_the_floor():
    assert learning_rate_at(12, **CURVE | {"warmup_iters": 12}) == 0.1


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0, 1 / 5),
        (3, 4 / 5),
        (4, 1.0),
        (6, 1.0),
        (7, 1.0),
        (8, 0.1 + 0.9 * 4 / 5),
        (11, 0.1 + 0.9 / 5),
        (12, 0.1),
        (13, 0.1),
    ],
)
def test_warmup_constant_line_and_floor(step, expected):
    curve = CURVE | {"constant_iters": 3, "lr_decay": "linear"}
    assert learning_rate_at(step, **curve) == pytest.approx(expected, abs=1e-12)


def test_a_cosine_can_start_after_constant_steps():
    curve = CURVE | {"constant_iters": 4}
    assert learning_rate_at(8, **curve) == 1.0
    assert learning_rate_at(10, **curve) == pytest.approx(0.55, abs=1e-12)


def test_a_constant_rate_longer_than_the_decay_drops_to_the_floor():
    assert learning_rate_at(11, **CURVE | {"constant_iters": 100}) == 1.0
    assert learning_rate_at(12, **CURVE | {"constant_iters": 100}) == 0.1
