"""Muon: a matrix is updated by its momentum made orthogonal, which turns all directions alike.

References:
    Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks",
        https://kellerjordan.github.io/posts/muon/. torch.optim.Muon takes matrices one by one, in five iterations; here
        those of a shape are one batch, and three do.
    Amsel et al. 2025, "The Polar Express", https://arxiv.org/abs/2505.16932, for how the polynomials are found.
"""

import math
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import AdamW

# Each is the a x + b x^3 + c x^5 nearest to 1 where the ones before it leave the singular values from 0.01 to 1:
# within 0.92 of 1, then 0.71, then 0.27.
POLYNOMIALS = (
    (8.0934, -23.6204, 17.4462),
    (3.6366, -2.7219, 0.5365),
    (2.6613, -1.9772, 0.4526),
)


def orthogonalised(matrices: Tensor) -> Tensor:
    """Brings the singular values of matrices near 1 and leaves their directions as they are.

    Those above a hundredth of a matrix's Frobenius norm come within 0.27 of 1, those below grow to 78 times their share
    of it at most, and zeros stay zeros; all give or take the rounding of the matrices' dtype.

    Args:
        matrices: (N, rows, columns).

    Returns:
        (N, rows, columns).
    """
    tall = matrices.size(1) > matrices.size(2)
    x = matrices.mT if tall else matrices  # the smaller side squared is the smaller product
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for a, b, c in POLYNOMIALS:
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon(AdamW):
    """Muon for the groups that have a `momentum`, AdamW for the others.

    One optimizer, because Lightning accumulates, clips and schedules for one. The learning rate of a matrix is that of
    its group times sqrt(rows / columns), if that is above 1; weight decay is AdamW's.

    Args:
        groups: Parameters and settings: AdamW's, or `lr`, `momentum` and `weight_decay` for matrices.
        fused: Of AdamW.
        dtype: In which matrices are made orthogonal; bfloat16 does where it is fast.
    """

    def __init__(self, groups: list[dict[str, Any]], fused: bool, dtype: torch.dtype) -> None:
        super().__init__(groups, fused=fused)
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Makes an update; returns what the closure does."""
        with torch.enable_grad():
            loss = None if closure is None else closure()
        groups = self.param_groups
        self.param_groups = [group for group in groups if "momentum" not in group]
        super().step()
        self.param_groups = groups
        for group in groups:
            if "momentum" in group:
                self._step_orthogonally(group)
        return loss

    def _step_orthogonally(self, group: dict[str, Any]) -> None:
        alike = defaultdict(list)
        for matrix in group["params"]:
            if matrix.grad is not None:
                alike[matrix.shape].append(matrix)
        for (rows, columns), matrices in alike.items():
            directions = [self._direction(matrix, matrix.grad, group["momentum"]) for matrix in matrices]
            updates = orthogonalised(torch.stack([_whole(direction).to(self.dtype) for direction in directions]))
            rate = group["lr"] * math.sqrt(max(1.0, rows / columns))
            for matrix, update in zip(matrices, updates, strict=True):
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                matrix.add_(_share(update.to(matrix.dtype), matrix), alpha=-rate)

    def _direction(self, matrix: Tensor, gradient: Tensor, momentum: float) -> Tensor:
        """Nesterov's momentum."""
        state = self.state[matrix]
        if not state:  # the step is of no use here, but AdamW looks for it when it loads
            state |= {"step": torch.zeros(()), "momentum_buffer": torch.zeros_like(gradient)}
        state["step"] += 1
        average = state["momentum_buffer"].lerp_(gradient, 1 - momentum)
        return gradient.lerp(average, momentum)


def _whole(tensor: Tensor) -> Tensor:
    """What FSDP2 has sharded, put together: no shard is orthogonal by itself."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _share(update: Tensor, parameter: Tensor) -> Tensor:
    """This device's share of an update that every device has whole."""
    if not isinstance(parameter, DTensor):
        return update
    return distribute_tensor(update, parameter.device_mesh, parameter.placements, src_data_rank=None)
