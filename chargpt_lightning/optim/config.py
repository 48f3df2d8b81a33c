"""How weights are updated: the optimizer, its settings, and its learning rate at each step."""

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from chargpt_lightning.optim.lr_schedule import Decay, learning_rate_at
from chargpt_lightning.optim.muon import Muon
from chargpt_lightning.utils.errors import ConfigError

OptimizerName = Literal["adamw", "muon"]


@dataclass(frozen=True)
class OptimizerConfig:
    """How the weights of a network are updated, by the arguments of CharGPT of these names, which are said there.

    Raises:
        ConfigError: If a number is out of its range.
    """

    optimizer: OptimizerName
    learning_rate: float
    min_lr: float
    muon_learning_rate: float
    warmup_iters: int
    constant_iters: int
    lr_decay_iters: int
    lr_decay: Decay
    decay_lr: bool
    weight_decay: float
    beta1: float
    beta2: float
    muon_momentum: float

    def __post_init__(self) -> None:
        for name, allowed, rule in (
            ("optimizer", self.optimizer in get_args(OptimizerName), "be adamw or muon"),
            ("lr_decay", self.lr_decay in get_args(Decay), "be cosine or linear"),
            ("learning_rate", 0 < self.learning_rate < math.inf, "be above 0 and finite"),
            ("min_lr", 0 <= self.min_lr <= self.learning_rate, f"be from 0 to learning_rate ({self.learning_rate})"),
            ("muon_learning_rate", 0 < self.muon_learning_rate < math.inf, "be above 0 and finite"),
            ("warmup_iters", self.warmup_iters >= 0, "be at least 0"),
            ("constant_iters", self.constant_iters >= 0, "be at least 0"),
            ("lr_decay_iters", self.lr_decay_iters >= 1, "be at least 1"),
            ("weight_decay", 0 <= self.weight_decay < math.inf, "be at least 0 and finite"),
            ("beta1", 0 <= self.beta1 < 1, "be at least 0 and below 1"),
            ("beta2", 0 <= self.beta2 < 1, "be at least 0 and below 1"),
            ("muon_momentum", 0 <= self.muon_momentum < 1, "be at least 0 and below 1"),
        ):
            if not allowed:
                raise ConfigError(f"{name} ({getattr(self, name)}) must {rule}")

    def learning_rate_ratio(self, step: int) -> float:
        """The learning rate of an update as a share of the peak."""
        if not self.decay_lr:
            return 1.0
        rate = learning_rate_at(
            step,
            learning_rate=self.learning_rate,
            min_lr=self.min_lr,
            warmup_iters=self.warmup_iters,
            constant_iters=self.constant_iters,
            lr_decay_iters=self.lr_decay_iters,
            lr_decay=self.lr_decay,
        )
        return rate / self.learning_rate

    def groups(self, network: nn.Module) -> list[dict[str, Any]]:
        """The weights of a network (with blocks `transformer.h`) and their settings at the peak.

        Matrices and embeddings decay; vectors (biases, norms) do not.
        """
        of_muon, matrices, vectors = [], [], []
        for name, weights in network.named_parameters():
            if weights.dim() < 2:
                vectors.append(weights)
            elif self.optimizer == "muon" and name.startswith("transformer.h."):
                of_muon.append(weights)
            else:
                matrices.append(weights)
        adamw = {"lr": self.learning_rate, "betas": (self.beta1, self.beta2)}
        groups = [
            {"params": matrices, "weight_decay": self.weight_decay, **adamw},
            {"params": vectors, "weight_decay": 0.0, **adamw},
        ]
        if self.optimizer == "muon":
            muon = {"lr": self.muon_learning_rate, "momentum": self.muon_momentum}
            groups.append({"params": of_muon, "weight_decay": self.weight_decay, **muon})
        return groups

    def build(self, network: nn.Module, fused: bool, dtype: torch.dtype) -> tuple[Optimizer, LambdaLR]:
        """Builds the optimizer of a network and its scheduler, at step 0.

        Args:
            network: Whose weights it updates.
            fused: Whether AdamW is one kernel.
            dtype: In which Muon orthogonalizes matrices; not in float16, where small gradients would vanish.
        """
        groups = self.groups(network)
        dtype = torch.float32 if dtype == torch.float16 else dtype
        optimizer = Muon(groups, fused, dtype) if self.optimizer == "muon" else AdamW(groups, fused=fused)
        return optimizer, LambdaLR(optimizer, self.learning_rate_ratio)

    def apply(self, optimizer: Optimizer, scheduler: LambdaLR, network: nn.Module, step: int) -> None:
        """Gives an optimizer and its scheduler these settings, in place of those that a checkpoint restored.

        Args:
            optimizer: As `build` made it for the same network.
            scheduler: Of that optimizer.
            network: Whose weights the optimizer updates.
            step: Updates made so far.
        """
        groups = self.groups(network)
        scheduler.base_lrs = [group["lr"] for group in groups]
        scheduler.lr_lambdas = [self.learning_rate_ratio] * len(groups)
        for group, settings in zip(optimizer.param_groups, groups, strict=True):
            del settings["params"]  # a sharded network may hold them unsharded at this moment
            group.update(settings | {"lr": settings["lr"] * self.learning_rate_ratio(step)})
