"""The norm of gradients, and clipping by it or by value."""

from collections.abc import Iterable

from torch import Tensor, nn
from torch.distributed.tensor import DTensor


def gradient_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """Returns the L2 norm () of all gradients together, computed in at least float32."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    return nn.utils.get_total_norm([grad.float() if grad.dtype.itemsize < 4 else grad for grad in gradients])


def as_number(norm: Tensor) -> float:
    """Returns the norm as a number; with FSDP2, the devices must call it together, because each holds a part."""
    return (norm.full_tensor() if isinstance(norm, DTensor) else norm).item()


def clip_gradients(
    parameters: Iterable[nn.Parameter], norm: Tensor, limit: float | None, algorithm: str | None
) -> None:
    """Clips gradients in place.

    Args:
        parameters: Parameters whose gradients are clipped.
        norm: Their `gradient_norm`.
        limit: Maximum norm or absolute value; None or 0 turns clipping off.
        algorithm: Lightning's `gradient_clip_algorithm`: "value" clips each value, anything else the norm.
    """
    if limit and algorithm == "value":
        nn.utils.clip_grad_value_(parameters, limit)
    elif limit:
        nn.utils.clip_grads_with_norm_(parameters, limit, norm)
