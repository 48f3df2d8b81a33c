"""The network of GPT-2 at the size of a character model: ids in, logits out.

References:
    Radford et al. 2019, "Language Models are Unsupervised Multitask Learners" (GPT-2).
    nanoGPT, https://github.com/karpathy/nanoGPT, whose parameter names and initialisation these are.

Shapes: B batch, T time, C channels (n_embd), H heads, D head size (C / H), V vocabulary.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chargpt_lightning.errors import ConfigError, require_at_least_one


@dataclass(frozen=True)
class GPTConfig:
    """The shape of the network.

    Args:
        vocab_size: Number of different ids (V).
        block_size: Longest context, in characters (T at most).
        n_layer: Number of blocks.
        n_head: Attention heads per block (H); must divide n_embd.
        n_embd: Width of the residual stream (C).
        dropout: Ratio of activations dropped in training, 0 up to but without 1.
        bias: Whether linear layers and norms have a bias.

    Raises:
        ConfigError: If a size is below 1, n_head does not divide n_embd, or dropout is no such ratio.
    """

    vocab_size: int
    block_size: int
    n_layer: int
    n_head: int
    n_embd: int
    dropout: float = 0.0
    bias: bool = False

    def __post_init__(self) -> None:
        require_at_least_one(
            vocab_size=self.vocab_size,
            block_size=self.block_size,
            n_layer=self.n_layer,
            n_head=self.n_head,
            n_embd=self.n_embd,
        )
        if self.n_embd % self.n_head:
            raise ConfigError(f"n_embd ({self.n_embd}) must be divisible by n_head ({self.n_head})")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout ({self.dropout}) must be at least 0 and below 1")


class CausalSelfAttention(nn.Module):
    """Attention of each position to itself and the past, over all heads at once."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.n_head = config.n_head
        self.dropout = config.dropout
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd, bias=config.bias)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd, bias=config.bias)
        self.resid_dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Mixes x (B, T, C) over time; returns (B, T, C)."""
        B, T, C = x.shape
        heads = self.c_attn(x).view(B, T, 3, self.n_head, C // self.n_head)
        q, k, v = heads.permute(2, 0, 3, 1, 4)  # each (B, H, T, D)
        dropout_p = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout_p, is_causal=True)  # (B, H, T, D)
        y = y.transpose(1, 2).reshape(B, T, C)
        return self.resid_dropout(self.c_proj(y))


class MLP(nn.Module):
    """The position-wise half of a block: four times wider, exact GELU, back."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.c_fc = nn.Linear(config.n_embd, 4 * config.n_embd, bias=config.bias)
        self.gelu = nn.GELU()
        self.c_proj = nn.Linear(4 * config.n_embd, config.n_embd, bias=config.bias)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Maps x (B, T, C) to (B, T, C), each position by itself."""
        return self.dropout(self.c_proj(self.gelu(self.c_fc(x))))


class Block(nn.Module):
    """Attention, then MLP, each on a normed copy and added to the residual stream."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, bias=config.bias)
        self.attn = CausalSelfAttention(config)
        self.ln_2 = nn.LayerNorm(config.n_embd, bias=config.bias)
        self.mlp = MLP(config)

    def forward(self, x: Tensor) -> Tensor:
        """Maps x (B, T, C) to (B, T, C)."""
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    """Token and position embeddings, the blocks, a final norm."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.block_size, config.n_embd)
        self.drop = nn.Dropout(config.dropout)
        self.h = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd, bias=config.bias)

    def forward(self, ids: Tensor) -> Tensor:
        """Maps ids (B, T) to what is known of each position, (B, T, C)."""
        positions = torch.arange(ids.size(1), device=ids.device)
        x = self.drop(self.wte(ids) + self.wpe(positions))  # (B, T, C)
        for block in self.h:
            x = block(x)
        return self.ln_f(x)


class GPT(nn.Module):
    """The transformer and a head that is tied to the token embedding."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.transformer = Transformer(config)
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.lm_head.weight = self.transformer.wte.weight
        self._initialise()

    def _initialise(self) -> None:
        """Draws GPT-2's start: normal with std 0.02, less for what adds to the residual stream; norms 1, biases 0."""
        residual_std = 0.02 / math.sqrt(2 * self.config.n_layer)  # two additions a block keep the stream's variance
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif parameter.dim() >= 2:
                nn.init.normal_(parameter, std=residual_std if name.endswith("c_proj.weight") else 0.02)

    def forward(self, ids: Tensor) -> Tensor:
        """Predicts the next character at every position.

        Args:
            ids: Token ids (B, T), T at most block_size.

        Returns:
            Logits (B, T, V).

        Raises:
            ConfigError: If T is larger than block_size.
        """
        if ids.size(1) > self.config.block_size:
            raise ConfigError(
                f"ids ({ids.size(1)} characters) must not be longer than block_size ({self.config.block_size})"
            )
        return self.lm_head(self.transformer(ids))
