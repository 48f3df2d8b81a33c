"""The norm of gradients, and clipping by it or by value."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor


def gradient_norm(weights: Iterable[nn.Parameter]) -> Tensor:
    """The norm () of all gradients together, computed in float32 at least."""
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    return nn.utils.get_total_norm([grad.to(torch.promote_types(grad.dtype, torch.float32)) for grad in gradients])


def as_number(norm: Tensor) -> float:
    """The norm as a number; the devices of a sharded network hold a part of it each."""
    return (norm.full_tensor() if isinstance(norm, DTensor) else norm).item()


def clip_gradients(weights: Iterable[nn.Parameter], norm: Tensor, limit: float | None, algorithm: str | None) -> None:
    """Clips gradients in place.

    Args:
        weights: Whose gradients.
        norm: Their `gradient_norm`.
        limit: The largest norm or value; None or 0 clips nothing.
        algorithm: Lightning's `gradient_clip_algorithm`; all but "value" clips by the norm.
    """
    if limit and algorithm == "value":
        nn.utils.clip_grad_value_(weights, limit)
    elif limit:
        nn.utils.clip_grads_with_norm_(weights, limit, norm)
