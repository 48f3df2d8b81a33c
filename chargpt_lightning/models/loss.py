"""Mean loss of an evaluation, exact for texts of any length and in every precision."""

import torch
from torch import Tensor
from torchmetrics import Metric


class MeanLoss(Metric):
    """Mean loss over the characters of all devices, with the sum in float64 and the count in int64.

    It must not be a submodule of a LightningModule, which would cast it to the precision of the weights. Lightning
    therefore neither moves nor resets it: call `begin` before each evaluation.
    """

    total: Tensor
    characters: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("characters", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def begin(self, device: torch.device) -> None:
        """Resets the sums and moves them to a device, or to the CPU for MPS, which does not support float64."""
        self.to("cpu" if device.type == "mps" else device)
        self.reset()

    def update(self, losses: Tensor) -> None:
        """Adds the losses of characters, a tensor of any shape; it may be empty."""
        self.total += losses.to(self.total.device).sum(dtype=torch.float64)
        self.characters += losses.numel()

    def compute(self) -> tuple[Tensor, Tensor]:
        """Returns mean loss (float64) and number of characters (int64) over all devices; all of them must call it."""
        return self.total / self.characters, self.characters
