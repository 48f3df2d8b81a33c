"""Cross-entropy, the losses of updates, and the mean losses of an evaluation, exact in every precision."""

import math
from itertools import islice
from statistics import fmean
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric

from chargpt_lightning.utils.errors import require_finite
from chargpt_lightning.utils.metrics import TRAIN_EVAL_LOSS, TRAIN_LOSS, VAL_CHARACTERS, VAL_LOSS, VAL_PERPLEXITY

MOST_UNREAD = 1000  # updates; each takes memory


class UpdateLosses:
    """The losses of the latest updates, which stay on an accelerator until they are read: reading waits for it."""

    def __init__(self) -> None:
        self._latest = math.nan
        self._micro_losses: list[Tensor] = []  # of the update under way
        self._unread: list[tuple[int, list[Tensor]]] = []  # step and micro-losses of complete updates

    def add(self, micro_loss: Tensor) -> None:
        """Adds the mean loss () of a micro-batch."""
        self._micro_losses.append(micro_loss)

    def end_update(self, step: int, is_logged: bool) -> float:
        """Ends an update; returns the mean loss of the latest one that was read: on a CPU each, otherwise the logged.

        Raises:
            FloatingPointError: As `read`.
        """
        on_cpu = self._micro_losses[-1].device.type == "cpu"
        self._unread.append((step, self._micro_losses))
        self._micro_losses = []
        if is_logged or on_cpu or len(self._unread) >= MOST_UNREAD:
            self.read()
        return self._latest

    def read(self) -> None:
        """Reads the losses of all complete updates at once.

        Raises:
            FloatingPointError: If one is not finite; the message names the first such update.
        """
        if not self._unread:
            return
        losses = iter(torch.stack([loss for _, losses in self._unread for loss in losses]).tolist())
        for step, micro_losses in self._unread:
            self._latest = fmean(islice(losses, len(micro_losses)))
            require_finite(TRAIN_LOSS, self._latest, step)
        self._unread.clear()


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


class Evaluation:
    """The metrics of an evaluation: mean losses of the val and the train split, and the val perplexity.

    Not an `nn.Module`, so that Lightning does not cast it to the precision of the weights.
    """

    def __init__(self) -> None:
        self._mean_losses = {VAL_LOSS: MeanLoss(), TRAIN_EVAL_LOSS: MeanLoss()}
        self._splits = 0  # number of splits evaluated: val, or val and train

    def begin(self, device: torch.device) -> None:
        """Resets the sums and moves them to a device."""
        self._splits = 0
        for mean_loss in self._mean_losses.values():
            mean_loss.begin(device)

    def update(self, split: int, losses: Tensor) -> None:
        """Adds the losses of characters of the val (0) or the train (1) split."""
        self._splits = max(self._splits, split + 1)
        list(self._mean_losses.values())[split].update(losses)

    def compute(self, step: int) -> dict[str, Tensor]:
        """Returns the metrics by name, in float64 and equal on all devices; all of them must call it.

        Args:
            step: Number of updates made; returned as the metric `step`.

        Raises:
            FloatingPointError: If a loss is not finite.
        """
        computed = {name: mean_loss.compute() for name, mean_loss in islice(self._mean_losses.items(), self._splits)}
        for name, (loss, _) in computed.items():
            require_finite(name, loss.item(), step)
        val_loss, val_characters = computed[VAL_LOSS]
        return {
            "step": torch.full_like(val_loss, step),
            VAL_PERPLEXITY: val_loss.exp(),
            VAL_CHARACTERS: val_characters.double(),
            **{name: loss for name, (loss, _) in computed.items()},
        }


def cross_entropy(logits: Tensor, targets: Tensor, reduction: Literal["mean", "none"]) -> Tensor:
    """Returns the cross-entropy of logits (B, T, V) and targets (B, T), in at least float32: () or (B * T,)."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction=reduction)
