"""Muon optimizer: updates matrices by their orthogonalized momentum.

References:
    Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks",
        https://kellerjordan.github.io/posts/muon/. torch.optim.Muon orthogonalizes matrices one by one, in five
        iterations; here matrices of the same shape form one batch, and three iterations suffice.
    Amsel et al. 2025, "The Polar Express", https://arxiv.org/abs/2505.16932, for the choice of the polynomials.
"""

import math
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import AdamW

# Newton-Schulz iterations a x + b x^3 + c x^5, each chosen to bring singular values that started between 0.01 and 1 as
# close to 1 as possible; the largest distance from 1 after each is 0.92, 0.71 and 0.27.
POLYNOMIALS = (
    (8.0934, -23.6204, 17.4462),
    (3.6366, -2.7219, 0.5365),
    (2.6613, -1.9772, 0.4526),
)


def orthogonalized(matrices: Tensor) -> Tensor:
    """Orthogonalizes matrices approximately, by Newton-Schulz iterations; singular vectors do not change.

    With s the ratio of a singular value to its matrix's Frobenius norm, the result is within 0.27 of 1 for s of 0.01 or
    more, at most 78 s for smaller ones, and 0 for 0, up to rounding in the dtype of the matrices.

    Args:
        matrices: Batch of matrices (N, rows, columns).

    Returns:
        Orthogonalized matrices (N, rows, columns).
    """
    tall = matrices.size(1) > matrices.size(2)
    x = matrices.mT if tall else matrices  # so that x @ x.mT has the size of the smaller side
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for a, b, c in POLYNOMIALS:
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon(AdamW):
    """Muon for the parameter groups that have a `momentum`, AdamW for the others.

    It is a single optimizer because Lightning's automatic optimization (gradient accumulation, clipping, schedules)
    supports only one. The learning rate of a matrix is its group's times max(1, sqrt(rows / columns)); weight decay is
    that of AdamW.

    Args:
        groups: Parameter groups with the settings of AdamW, or with `lr`, `momentum` and `weight_decay` for matrices.
        fused: Whether to use AdamW's fused kernel.
        dtype: Dtype in which matrices are orthogonalized; bfloat16 is precise enough, where the device is fast in it.
    """

    def __init__(self, groups: list[dict[str, Any]], fused: bool, dtype: torch.dtype) -> None:
        super().__init__(groups, fused=fused)
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Performs one update; returns the closure's result."""
        with torch.enable_grad():
            loss = None if closure is None else closure()
        groups = self.param_groups
        self.param_groups = [group for group in groups if "momentum" not in group]
        super().step()
        self.param_groups = groups
        for group in groups:
            if "momentum" in group:
                self._muon_step(group)
        return loss

    def _muon_step(self, group: dict[str, Any]) -> None:
        by_shape = defaultdict(list)
        for matrix in group["params"]:
            if matrix.grad is not None:
                by_shape[matrix.shape].append(matrix)
        for (rows, columns), matrices in by_shape.items():
            directions = [self._direction(matrix, matrix.grad, group["momentum"]) for matrix in matrices]
            updates = orthogonalized(torch.stack([_gathered(direction).to(self.dtype) for direction in directions]))
            lr = group["lr"] * math.sqrt(max(1.0, rows / columns))
            for matrix, update in zip(matrices, updates, strict=True):
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                matrix.add_(_local_shard(update.to(matrix.dtype), matrix), alpha=-lr)

    def _direction(self, matrix: Tensor, gradient: Tensor, momentum: float) -> Tensor:
        """Returns the gradient with Nesterov momentum."""
        state = self.state[matrix]
        if not state:  # Muon does not use `step`, but AdamW.load_state_dict requires it
            state |= {"step": torch.zeros(()), "momentum_buffer": torch.zeros_like(gradient)}
        state["step"] += 1
        average = state["momentum_buffer"].lerp_(gradient, 1 - momentum)
        return gradient.lerp(average, momentum)


def _gathered(tensor: Tensor) -> Tensor:
    """Returns the full tensor where FSDP2 has sharded it: shards cannot be orthogonalized separately."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _local_shard(update: Tensor, parameter: Tensor) -> Tensor:
    """Returns this device's shard of an update that every device has in full."""
    if not isinstance(parameter, DTensor):
        return update
    return distribute_tensor(update, parameter.device_mesh, parameter.placements, src_data_rank=None)
