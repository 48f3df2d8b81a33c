"""The mean loss of an evaluation, exact for texts of any length and in every precision."""

import torch
from torch import Tensor
from torchmetrics import Metric


class MeanLoss(Metric):
    """The mean loss over all characters of all devices: summed in float64, counted in int64.

    It must not be a submodule of a LightningModule, or it would be cast to the precision of the weights. So `begin`
    has to be called before each evaluation, to move and to reset it.
    """

    total: Tensor
    characters: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("characters", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def begin(self, device: torch.device) -> None:
        """Resets the sums and moves them to a device, or to the CPU for a Mac's GPU, which has no float64."""
        self.to("cpu" if device.type == "mps" else device)
        self.reset()

    def update(self, losses: Tensor) -> None:
        """Adds the losses of characters: a tensor of any shape, or an empty one."""
        self.total += losses.to(self.total.device).sum(dtype=torch.float64)
        self.characters += losses.numel()

    def compute(self) -> tuple[Tensor, Tensor]:
        """The mean loss (float64) and the number of characters (int64) of all devices; all of them must call it."""
        return self.total / self.characters, self.characters
