"""GPT-2's network with those later improvements that pay off at this size: ids in, logits out.

It differs from `gpt` in
    rotary position embeddings (RoPE) instead of learned ones: Su et al. 2021, "RoFormer";
    normalized queries and keys: Dehghani et al. 2023, "Scaling Vision Transformers to 22 Billion Parameters";
    squared ReLU instead of GELU: So et al. 2021, "Primer";
    a normalized embedding that convolves each character with the three before it: Kim et al. 2015,
        "Character-Aware Neural Language Models";
    if n_gram is above 1, embeddings of the n-grams that end at each character, in one table of hashes: Pagnoni et al.
        2024, "Byte Latent Transformer";
    a head that is not tied to the embedding.

Shapes: B batch, T time, C channels (n_embd), H heads, D head size (C / H), V vocabulary.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chargpt_lightning.models.attention import KVCache, attend, split_heads
from chargpt_lightning.models.base import GPTConfig, LanguageModel
from chargpt_lightning.utils.errors import ConfigError

EMBEDDING_WIDTH = 4  # characters: the kernel size of the embedding's convolution
N_GRAM_ROWS = 32_749  # of the table, a prime: in Tiny Shakespeare one for each frequent n-gram
HASH_BASE = 7_919


def hashed_n_grams(ids: Tensor, longest: int) -> Tensor:
    """Returns the row of each n-gram that ends at each of ids (B, T), for n from 2 to `longest`: (longest - 1, B, T).

    The row is a rolling hash (Karp and Rabin 1987). Characters before the first count as a character of their own.
    """
    characters = ids.long() + 1
    rows = [characters]
    for distance in range(1, longest):
        earlier = F.pad(characters, (distance, 0))[:, : ids.size(1)]
        rows.append((rows[-1] * HASH_BASE + earlier) % N_GRAM_ROWS)
    return torch.stack(rows[1:])


def rope(positions: Tensor, head_size: int) -> Tensor:
    """RoPE cosines and sines of positions (T,): (2, T, D / 2), with frequencies from 1 to 1e-4 rad per position.

    The angles are computed in float64: float32 is off by half a radian at position 1e7, which sampling can reach.
    """
    exact = positions.cpu() if positions.device.type == "mps" else positions  # MPS has no float64
    exponents = torch.arange(0, head_size, 2, dtype=torch.float64, device=exact.device) / head_size  # (D / 2,)
    angles = exact[:, None] * 10_000**-exponents
    return torch.stack([angles.cos(), angles.sin()]).to(positions.device, torch.get_default_dtype())


def apply_rope(x: Tensor, cos_sin: Tensor) -> Tensor:
    """Rotates pairs of channels of x (B, H, T, D), so that dot products depend on relative positions only."""
    a, b = x.chunk(2, dim=3)
    cos, sin = cos_sin
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=3)


class CausalSelfAttention(nn.Module):
    """Multi-head attention of each position to itself and the positions before it."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.n_head = config.n_head
        self.dropout = config.dropout
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd, bias=False)
        self.ln_q = nn.LayerNorm(config.n_embd // config.n_head, bias=False)
        self.ln_k = nn.LayerNorm(config.n_embd // config.n_head, bias=False)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd, bias=False)
        self.resid_dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, cos_sin: Tensor, cache: KVCache | None = None) -> Tensor:
        """Maps x (B, T, C), the positions that follow the cached ones, to (B, T, C)."""
        qkv = self.c_attn(x)  # (B, T, 3C)
        q, k, v = split_heads(qkv, self.n_head)  # (B, H, T, D)
        q = apply_rope(self.ln_q(q.to(x.dtype)), cos_sin).to(v.dtype)
        k = apply_rope(self.ln_k(k.to(x.dtype)), cos_sin).to(v.dtype)
        if cache is not None:
            k, v = cache.extend(k, v)
        y = attend(q, k, v, self.dropout if self.training else 0.0).to(qkv.dtype)  # (B, T, C)
        return self.resid_dropout(self.c_proj(y))


class MLP(nn.Module):
    """Position-wise MLP: expands to 4 C, squared ReLU, projects back to C."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.c_fc = nn.Linear(config.n_embd, 4 * config.n_embd, bias=False)
        self.c_proj = nn.Linear(4 * config.n_embd, config.n_embd, bias=False)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Maps x (B, T, C) to (B, T, C), each position independently."""
        return self.dropout(self.c_proj(F.relu(self.c_fc(x)).square()))


class Block(nn.Module):
    """Pre-norm attention and MLP, each added to the residual stream."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, bias=False)
        self.attn = CausalSelfAttention(config)
        self.ln_2 = nn.LayerNorm(config.n_embd, bias=False)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, cos_sin: Tensor, cache: KVCache | None = None) -> Tensor:
        """Maps x (B, T, C), the positions that follow the cached ones, to (B, T, C)."""
        x = x + self.attn(self.ln_1(x), cos_sin, cache)
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    """Embedding, blocks and final norm."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.head_size = config.n_embd // config.n_head
        self.n_gram = config.n_gram
        self.wte = nn.Embedding(config.vocab_size, EMBEDDING_WIDTH * config.n_embd)
        nn.init.normal_(self.wte.weight, std=0.1)  # small enough for n-grams to count soon
        if config.n_gram > 1:
            self.wne = nn.Embedding(N_GRAM_ROWS, config.n_embd)
            nn.init.zeros_(self.wne.weight)
            self.n_gram_dropout = nn.Dropout1d(config.n_gram_dropout)  # drops all channels of an n-gram
        self.ln_e = nn.LayerNorm(config.n_embd, bias=False)
        self.drop = nn.Dropout(config.dropout)
        self.h = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        """Maps ids (B, T) to hidden states (B, T, C)."""
        return self.apply_blocks(self.embed(ids), 0, [None] * len(self.h))

    def embed(self, ids: Tensor) -> Tensor:
        """Maps ids (B, T) to (B, T, C): the last four characters of each position, and the n-grams that end there."""
        T = ids.size(1)
        by_shift = self.wte(ids).chunk(EMBEDDING_WIDTH, dim=2)  # (B, T, C) each
        x = torch.stack([F.pad(part, (0, 0, shift, 0))[:, :T] for shift, part in enumerate(by_shift)]).sum(dim=0)
        if self.n_gram > 1:
            rows = hashed_n_grams(ids, self.n_gram)
            n_grams = self.n_gram_dropout(self.wne(rows).flatten(0, 1))  # (n * B, T, C), n for bigrams and longer
            x = x + n_grams.unflatten(0, rows.shape[:2]).sum(dim=0)
        return self.drop(self.ln_e(x))

    def apply_blocks(self, x: Tensor, start: int, caches: Sequence[KVCache | None]) -> Tensor:
        """Maps embeddings (B, T, C), which follow the cached ones from position `start`, to hidden states (B, T, C)."""
        cos_sin = rope(torch.arange(start, start + x.size(1), device=x.device), self.head_size)
        for block, cache in zip(self.h, caches, strict=True):
            x = block(x, cos_sin, cache)
        return self.ln_f(x)


class ModernGPT(LanguageModel):
    """The modern transformer and an untied head.

    Raises:
        ConfigError: If the config has biases or an odd head size.
    """

    transformer: Transformer

    def __init__(self, config: GPTConfig) -> None:
        if config.bias:
            raise ConfigError("bias (True) must be False, because the modern architecture has no biases")
        if config.n_embd // config.n_head % 2:
            raise ConfigError(
                f"n_embd ({config.n_embd}) must be an even multiple of n_head ({config.n_head}), "
                "because RoPE rotates pairs of channels"
            )
        super().__init__(config, Transformer(config))

    def next_logits(self, ids: Tensor, caches: list[KVCache]) -> Tensor:
        """Predicts the next character of each text.

        Only the positions added since the last call are computed, even beyond block_size: with RoPE, cached keys and
        values stay valid when the window moves. A position then attends to the last block_size positions, as the last
        position of a training window does, but their cached keys and values also carry information from positions that
        have left the window. If the texts of the first call are longer, only their last block_size characters are used.
        """
        start = caches[0].length
        if start == 0:
            x = self.transformer.embed(ids[:, -self.config.block_size :])
        else:
            seen = max(EMBEDDING_WIDTH, self.config.n_gram)
            x = self.transformer.embed(ids[:, -seen:])[:, -1:]
        return self.lm_head(self.transformer.apply_blocks(x, start, caches)[:, -1])
