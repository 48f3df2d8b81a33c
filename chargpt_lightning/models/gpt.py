"""The network of GPT-2 at the size of a character model: ids in, logits out.

References:
    Radford et al. 2019, "Language Models are Unsupervised Multitask Learners" (GPT-2).
    nanoGPT, https://github.com/karpathy/nanoGPT, whose parameter names and initialisation these are.

Shapes: B batch, T time, C channels (n_embd), H heads, D head size (C / H), V vocabulary.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from chargpt_lightning.models.attention import Past, attend, split_heads
from chargpt_lightning.models.base import GPTConfig, LanguageModel


class CausalSelfAttention(nn.Module):
    """Attention of each position to itself and the past, over all heads at once."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.n_head = config.n_head
        self.dropout = config.dropout
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd, bias=config.bias)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd, bias=config.bias)
        self.resid_dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, past: Past | None = None, last: bool = False) -> Tensor:
        """Mixes x (B, T, C), which continues what is past, over time; returns (B, T, C), or the last position's."""
        qkv = self.c_attn(x)  # (B, T, 3C)
        q, k, v = split_heads(qkv, self.n_head)  # (B, H, T, D)
        if past is not None:
            k, v = past.extend(k, v)
        if last:
            q = q[:, :, -1:]
        y = attend(q, k, v, self.dropout if self.training else 0.0).to(qkv.dtype)  # (B, T, C)
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

    def forward(self, x: Tensor, past: Past | None = None, last: bool = False) -> Tensor:
        """Maps x (B, T, C), which continues what is past, to (B, T, C), or to the last position's (B, 1, C)."""
        mixed = self.attn(self.ln_1(x), past, last)
        x = (x[:, -1:] if last else x) + mixed
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
        x = self.embed(ids, start=0)
        for block in self.h:
            x = block(x)
        return self.ln_f(x)

    def embed(self, ids: Tensor, start: int) -> Tensor:
        """Maps ids (B, T), the first of which has position `start`, to (B, T, C)."""
        positions = torch.arange(start, start + ids.size(1), device=ids.device)
        return self.drop(self.wte(ids) + self.wpe(positions))

    def last(self, ids: Tensor, start: int, pasts: Sequence[Past | None]) -> Tensor:
        """Maps ids (B, T), which continue what is past at position `start`, to the last position's (B, 1, C)."""
        x = self.embed(ids, start)
        for block, past in zip(self.h, pasts, strict=True):
            x = block(x, past, last=block is self.h[-1])
        return self.ln_f(x)


class GPT(LanguageModel):
    """The transformer and a head that is tied to the token embedding."""

    transformer: Transformer

    def __init__(self, config: GPTConfig) -> None:
        super().__init__(config, Transformer(config))
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

    def next_logits(self, ids: Tensor, pasts: list[Past]) -> Tensor:
        """Predicts the character that comes next.

        While the texts fit block_size, only the positions that are new since the last call are computed. Beyond it
        the window moves with each character, and with it the learned position of every character that it holds. Keys
        and values of the old positions are then of no use: the whole window is computed anew, but of the last block
        only what the last position needs.
        """
        if ids.size(1) > self.config.block_size:
            nothing = [None] * len(pasts)
            return self._last_logits(ids[:, -self.config.block_size :], 0, nothing)
        start = pasts[0].length
        return self._last_logits(ids[:, start:], start, pasts)

    def _last_logits(self, ids: Tensor, start: int, pasts: Sequence[Past | None]) -> Tensor:
        return self.lm_head(self.transformer.last(ids, start, pasts))[:, 0]
