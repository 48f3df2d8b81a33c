"""The norm of gradients, and clipping by it or by value."""

import pytest
import torch
from torch import nn

from chargpt_lightning.optim.gradients import as_number, clip_gradients, gradient_norm


def weights_with(*gradients: list[float], dtype: torch.dtype = torch.float32) -> list[nn.Parameter]:
    weights = [nn.Parameter(torch.zeros(len(gradient), dtype=dtype)) for gradient in gradients]
    for weight, gradient in zip(weights, gradients, strict=True):
        weight.grad = torch.tensor(gradient, dtype=dtype)
    return weights


def test_the_norm_is_over_all_gradients_and_ignores_weights_without_one():
    weights = [*weights_with([3.0], [0.0, 4.0]), nn.Parameter(torch.ones(2))]
    assert as_number(gradient_norm(weights)) == 5.0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_norm_of_half_precision_gradients_is_computed_in_float32(dtype):
    """In float16, 300 squared is infinite."""
    norm = gradient_norm(weights_with([300.0] * 4096, dtype=dtype))
    assert norm.dtype == torch.float32
    assert as_number(norm) == pytest.approx(300 * 64)


def test_the_norm_of_float64_gradients_stays_in_float64():
    assert gradient_norm(weights_with([1.0], dtype=torch.float64)).dtype == torch.float64


@pytest.mark.parametrize(
    ("limit", "algorithm", "clipped"),
    [
        (2.5, None, [1.5, 2.0]),
        (2.5, "norm", [1.5, 2.0]),
        (10.0, "norm", [3.0, 4.0]),
        (3.5, "value", [3.0, 3.5]),
        (0.0, "norm", [3.0, 4.0]),
        (None, "value", [3.0, 4.0]),
    ],
)
def test_gradients_are_clipped_in_place(limit, algorithm, clipped):
    (weight,) = weights_with([3.0, 4.0])
    clip_gradients([weight], gradient_norm([weight]), limit, algorithm)
    torch.testing.assert_close(weight.grad, torch.tensor(clipped))
