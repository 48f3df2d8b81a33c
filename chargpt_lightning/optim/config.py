"""Settings of the optimizer, its parameter groups, and its construction."""

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
    """Optimizer settings; the arguments of CharGPT with the same names document them.

    Raises:
        ConfigError: If a value is out of range.
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
        """Returns the learning rate of update number `step`, counted from 0, as a fraction of the peak."""
        if not self.decay_lr:
            return 1.0
        lr = learning_rate_at(
            step,
            learning_rate=self.learning_rate,
            min_lr=self.min_lr,
            warmup_iters=self.warmup_iters,
            constant_iters=self.constant_iters,
            lr_decay_iters=self.lr_decay_iters,
            lr_decay=self.lr_decay,
        )
        return lr / self.learning_rate

    def groups(self, network: nn.Module) -> list[dict[str, Any]]:
        """Returns the parameter groups of a network with blocks `transformer.h`, with peak learning rates.

        Weight decay applies to matrices and embeddings, but not to vectors (biases and norm weights).
        """
        muon_matrices, matrices, vectors = [], [], []
        for name, parameter in network.named_parameters():
            if parameter.dim() < 2:
                vectors.append(parameter)
            elif self.optimizer == "muon" and name.startswith("transformer.h."):
                muon_matrices.append(parameter)
            else:
                matrices.append(parameter)
        adamw = {"lr": self.learning_rate, "betas": (self.beta1, self.beta2)}
        groups = [
            {"params": matrices, "weight_decay": self.weight_decay, **adamw},
            {"params": vectors, "weight_decay": 0.0, **adamw},
        ]
        if self.optimizer == "muon":
            muon = {"lr": self.muon_learning_rate, "momentum": self.muon_momentum}
            groups.append({"params": muon_matrices, "weight_decay": self.weight_decay, **muon})
        return groups

    def build(self, network: nn.Module, fused: bool, dtype: torch.dtype) -> tuple[Optimizer, LambdaLR]:
        """Returns the optimizer of a network, with peak learning rates, and its scheduler.

        Args:
            network: Network whose parameters it updates.
            fused: Whether to use AdamW's fused kernel.
            dtype: Dtype in which Muon orthogonalizes matrices; float16 becomes float32, or small gradients vanish.
        """
        groups = self.groups(network)
        dtype = torch.float32 if dtype == torch.float16 else dtype
        optimizer = Muon(groups, fused, dtype) if self.optimizer == "muon" else AdamW(groups, fused=fused)
        return optimizer, LambdaLR(optimizer, self.learning_rate_ratio)

    def apply(self, optimizer: Optimizer, scheduler: LambdaLR, network: nn.Module, step: int) -> None:
        """Replaces the settings of an optimizer and its scheduler, such as those restored from a checkpoint, by these.

        Args:
            optimizer: Optimizer that `build` returned for the same network.
            scheduler: Its scheduler.
            network: Network whose parameters it updates.
            step: Number of updates made so far.
        """
        groups, ratio = self.groups(network), self.learning_rate_ratio(step)
        scheduler.base_lrs = [group["lr"] for group in groups]
        scheduler.lr_lambdas = [self.learning_rate_ratio] * len(groups)
        for group, settings in zip(optimizer.param_groups, groups, strict=True):
            del settings["params"]  # a sharded network may hold them unsharded at this moment
            group.update(optimizer.defaults | settings | {"lr": settings["lr"] * ratio})
