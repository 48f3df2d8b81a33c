"""A network of GPT-2's size with what came after it, as far as it pays here: ids in, logits out.

It differs from `gpt` in
    rotary positions instead of learned ones: Su et al. 2021, "RoFormer";
    norms of queries and keys: Dehghani et al. 2023, "Scaling Vision Transformers to 22 Billion Parameters";
    squared ReLU instead of GELU: So et al. 2021, "Primer";
    the embedding, which is of a character and the three before it, a convolution as in Kim et al. 2015,
        "Character-Aware Neural Language Models", and normed;
    a head of its own instead of a tied one.

Shapes: B batch, T time, C channels (n_embd), H heads, D head size (C / H), V vocabulary.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chargpt_lightning.models.attention import Past, attend, split_heads
from chargpt_lightning.models.base import GPTConfig, LanguageModel
from chargpt_lightning.utils.errors import ConfigError

WIDTH = 4  # characters that are embedded together


def rotation(positions: Tensor, head_size: int) -> Tensor:
    """RoPE cosines and sines of positions (T,): (2, T, D / 2), with frequencies from 1 to 1e-4 rad per position.

    The angles are computed in float64: in float32 they are half a radian off at position 1e7, which sampling reaches.
    """
    exact = positions.cpu() if positions.device.type == "mps" else positions  # MPS has no float64
    exponents = torch.arange(0, head_size, 2, dtype=torch.float64, device=exact.device) / head_size  # (D / 2,)
    angles = exact[:, None] * 10_000**-exponents
    return torch.stack([angles.cos(), angles.sin()]).to(positions.device, torch.get_default_dtype())


def rotated(x: Tensor, turns: Tensor) -> Tensor:
    """Turns pairs of channels of x (B, H, T, D), after which products of positions know their distance only."""
    a, b = x.chunk(2, dim=3)
    cos, sin = turns
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=3)


class CausalSelfAttention(nn.Module):
    """Attention of each position to itself and the past, over all heads at once."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.n_head = config.n_head
        self.dropout = config.dropout
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd, bias=False)
        self.ln_q = nn.LayerNorm(config.n_embd // config.n_head, bias=False)
        self.ln_k = nn.LayerNorm(config.n_embd // config.n_head, bias=False)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd, bias=False)
        self.resid_dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, turns: Tensor, past: Past | None = None) -> Tensor:
        """Mixes x (B, T, C), which continues what is past, over time; returns (B, T, C)."""
        qkv = self.c_attn(x)  # (B, T, 3C)
        q, k, v = split_heads(qkv, self.n_head)  # (B, H, T, D)
        q = rotated(self.ln_q(q.to(x.dtype)), turns).to(v.dtype)
        k = rotated(self.ln_k(k.to(x.dtype)), turns).to(v.dtype)
        if past is not None:
            k, v = past.extend(k, v)
        y = attend(q, k, v, self.dropout if self.training else 0.0).to(qkv.dtype)  # (B, T, C)
        return self.resid_dropout(self.c_proj(y))


class MLP(nn.Module):
    """The position-wise half of a block: four times wider, squared ReLU, back."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.c_fc = nn.Linear(config.n_embd, 4 * config.n_embd, bias=False)
        self.c_proj = nn.Linear(4 * config.n_embd, config.n_embd, bias=False)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Maps x (B, T, C) to (B, T, C), each position by itself."""
        return self.dropout(self.c_proj(F.relu(self.c_fc(x)).square()))


class Block(nn.Module):
    """Attention, then MLP, each on a normed copy and added to the residual stream."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, bias=False)
        self.attn = CausalSelfAttention(config)
        self.ln_2 = nn.LayerNorm(config.n_embd, bias=False)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, turns: Tensor, past: Past | None = None) -> Tensor:
        """Maps x (B, T, C), which continues what is past, to (B, T, C)."""
        x = x + self.attn(self.ln_1(x), turns, past)
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    """The embedding, the blocks, a final norm."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.head_size = config.n_embd // config.n_head
        self.wte = nn.Embedding(config.vocab_size, WIDTH * config.n_embd)
        self.ln_e = nn.LayerNorm(config.n_embd, bias=False)
        self.drop = nn.Dropout(config.dropout)
        self.h = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        """Maps ids (B, T) to what is known of each position, (B, T, C)."""
        return self.mix(self.embed(ids), 0, [None] * len(self.h))

    def embed(self, ids: Tensor) -> Tensor:
        """Maps ids (B, T) to (B, T, C): what a character means where it stands, and 1 to 3 places further on."""
        T = ids.size(1)
        meanings = self.wte(ids).chunk(WIDTH, dim=2)  # (B, T, C) each
        x = torch.stack([F.pad(meaning, (0, 0, place, 0))[:, :T] for place, meaning in enumerate(meanings)]).sum(dim=0)
        return self.drop(self.ln_e(x))

    def mix(self, x: Tensor, start: int, pasts: Sequence[Past | None]) -> Tensor:
        """Maps x (B, T, C), which continues what is past at position `start`, to what is known then, (B, T, C)."""
        turns = rotation(torch.arange(start, start + x.size(1), device=x.device), self.head_size)
        for block, past in zip(self.h, pasts, strict=True):
            x = block(x, turns, past)
        return self.ln_f(x)


class ModernGPT(LanguageModel):
    """The transformer and a head of its own.

    Raises:
        ConfigError: If the config asks for biases, or for heads of an odd size.
    """

    transformer: Transformer

    def __init__(self, config: GPTConfig) -> None:
        if config.bias:
            raise ConfigError("bias (True) must be False, because the modern architecture has no biases")
        if config.n_embd // config.n_head % 2:
            raise ConfigError(
                f"n_embd ({config.n_embd}) must be an even multiple of n_head ({config.n_head}), "
                "because modern heads turn pairs of channels"
            )
        super().__init__(config, Transformer(config))

    def next_logits(self, ids: Tensor, pasts: list[Past]) -> Tensor:
        """Predicts the character that comes next.

        Only the positions that are new since the last call are computed, beyond block_size too: what keys and values
        say is true wherever the window stands. There a character sees the block_size characters up to itself, as the
        last of a window does in training, but what it knows of them still holds what they saw before. Of a longer
        text at the first call the last block_size characters count.
        """
        start = pasts[0].length
        if start == 0:
            x = self.transformer.embed(ids[:, -self.config.block_size :])
        else:
            x = self.transformer.embed(ids[:, -WIDTH:])[:, -1:]
        return self.lm_head(self.transformer.mix(x, start, pasts)[:, -1])
