"""GPT-2's network at the size of a character model: ids in, logits out.

References:
    Radford et al. 2019, "Language Models are Unsupervised Multitask Learners" (GPT-2).
    nanoGPT, https://github.com/karpathy/nanoGPT, for the parameter names and the initialization.

Shapes: B batch, T time, C channels (n_embd), H heads, D head size (C / H), V vocabulary.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from chargpt_lightning.models.attention import KVCache, attend, split_heads
from chargpt_lightning.models.base import GPTConfig, LanguageModel
from chargpt_lightning.utils.errors import ConfigError


class CausalSelfAttention(nn.Module):
    """Multi-head attention of each position to itself and the positions before it."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.n_head = config.n_head
        self.dropout = config.dropout
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd, bias=config.bias)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd, bias=config.bias)
        self.resid_dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, cache: KVCache | None = None, last: bool = False) -> Tensor:
        """Maps x (B, T, C), the positions that follow the cached ones, to (B, T, C), or if `last` to (B, 1, C)."""
        qkv = self.c_attn(x)  # (B, T, 3C)
        q, k, v = split_heads(qkv, self.n_head)  # (B, H, T, D)
        if cache is not None:
            k, v = cache.extend(k, v)
        if last:
            q = q[:, :, -1:]
        y = attend(q, k, v, self.dropout if self.training else 0.0).to(qkv.dtype)  # (B, T, C)
        return self.resid_dropout(self.c_proj(y))


class MLP(nn.Module):
    """Position-wise MLP: expands to 4 C, exact GELU, projects back to C."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.c_fc = nn.Linear(config.n_embd, 4 * config.n_embd, bias=config.bias)
        self.gelu = nn.GELU()
        self.c_proj = nn.Linear(4 * config.n_embd, config.n_embd, bias=config.bias)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Maps x (B, T, C) to (B, T, C), each position independently."""
        return self.dropout(self.c_proj(self.gelu(self.c_fc(x))))


class Block(nn.Module):
    """Pre-norm attention and MLP, each added to the residual stream."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, bias=config.bias)
        self.attn = CausalSelfAttention(config)
        self.ln_2 = nn.LayerNorm(config.n_embd, bias=config.bias)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, cache: KVCache | None = None, last: bool = False) -> Tensor:
        """Maps x (B, T, C), the positions that follow the cached ones, to (B, T, C), or if `last` to (B, 1, C)."""
        mixed = self.attn(self.ln_1(x), cache, last)
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
        """Maps ids (B, T) to hidden states (B, T, C)."""
        x = self.embed(ids, start=0)
        for block in self.h:
            x = block(x)
        return self.ln_f(x)

    def embed(self, ids: Tensor, start: int) -> Tensor:
        """Embeds ids (B, T), which start at position `start`: (B, T, C)."""
        positions = torch.arange(start, start + ids.size(1), device=ids.device)
        return self.drop(self.wte(ids) + self.wpe(positions))

    def last(self, ids: Tensor, start: int, caches: Sequence[KVCache | None]) -> Tensor:
        """Maps ids (B, T), which follow the cached ones from position `start`, to the last hidden state (B, 1, C)."""
        x = self.embed(ids, start)
        for block, cache in zip(self.h, caches, strict=True):
            x = block(x, cache, last=block is self.h[-1])
        return self.ln_f(x)


class GPT(LanguageModel):
    """GPT-2: the transformer and a head tied to the token embedding.

    Raises:
        ConfigError: If the config has n-grams.
    """

    transformer: Transformer

    def __init__(self, config: GPTConfig) -> None:
        if config.n_gram > 1:
            raise ConfigError(f"n_gram ({config.n_gram}) must be 1, because only the modern architecture has n-grams")
        super().__init__(config, Transformer(config))
        self.lm_head.weight = self.transformer.wte.weight
        self._initialize()

    def _initialize(self) -> None:
        """Initializes as GPT-2: normal with std 0.02, smaller for residual projections; norm weights 1, biases 0."""
        # Each block adds to the residual stream twice; this keeps its variance independent of the number of blocks.
        residual_std = 0.02 / math.sqrt(2 * self.config.n_layer)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif parameter.dim() >= 2:
                nn.init.normal_(parameter, std=residual_std if name.endswith("c_proj.weight") else 0.02)

    def next_logits(self, ids: Tensor, caches: list[KVCache]) -> Tensor:
        """Predicts the next character of each text.

        While the texts fit into block_size, only the positions added since the last call are computed. Beyond it the
        window moves with each character, which changes the learned position of every character in it and so makes the
        cached keys and values invalid. The window is then recomputed at each call, except that the last block computes
        its output for the last position only.
        """
        if ids.size(1) > self.config.block_size:
            no_caches = [None] * len(caches)
            return self._last_logits(ids[:, -self.config.block_size :], 0, no_caches)
        start = caches[0].length
        return self._last_logits(ids[:, start:], start, caches)

    def _last_logits(self, ids: Tensor, start: int, caches: Sequence[KVCache | None]) -> Tensor:
        return self.lm_head(self.transformer.last(ids, start, caches))[:, 0]
