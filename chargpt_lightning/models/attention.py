"""Causal self-attention and its key-value cache, shared by all networks.

Shapes: B batch, T time, C channels, H heads, D head size (C / H).
"""

import torch
from torch import Tensor
from torch.nn import functional as F


class KVCache:
    """Keys and values of the latest positions of an attention layer, so that each is computed only once.

    Args:
        block_size: Maximum number of positions kept; once it is reached, each new one overwrites the oldest. Memory is
            allocated as it is needed, because a block may be far longer than any text.
    """

    def __init__(self, block_size: int) -> None:
        self.block_size = block_size
        self.length = 0  # positions added so far, including overwritten ones
        self.keys = self.values = torch.empty(0)

    def extend(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Adds k and v (B, H, T, D) of the next positions; returns all that are kept, in arbitrary order.

        Positions of one call must not wrap around: after the first call, add one at a time.
        """
        B, H, T, D = k.shape
        if self.length == 0:
            self.keys, self.values = k.new_empty(2, B, H, 0, D)
        if (missing := min(self.length + T, self.block_size) - self.keys.size(2)) > 0:
            more = min(max(missing, self.length), self.block_size - self.length)  # at least doubles
            self.keys, self.values = (F.pad(part, (0, 0, 0, more)) for part in (self.keys, self.values))
        slot = self.length % self.block_size
        self.length += T
        self.keys[:, :, slot : slot + T] = k
        self.values[:, :, slot : slot + T] = v
        return self.keys[:, :, : self.length], self.values[:, :, : self.length]


def split_heads(qkv: Tensor, n_head: int) -> tuple[Tensor, ...]:
    """Splits qkv (B, T, 3C) into queries, keys and values, (B, H, T, D) each.

    On a CPU the result is at least float32, even under autocast: the backward pass of attention takes 4 times as long
    in bf16 there.
    """
    if qkv.device.type == "cpu":
        qkv = qkv.to(torch.promote_types(qkv.dtype, torch.float32))
    B, T, C = qkv.shape
    return tuple(part.view(B, T, n_head, C // (3 * n_head)).transpose(1, 2) for part in qkv.chunk(3, dim=2))


def attend(q: Tensor, k: Tensor, v: Tensor, dropout_p: float) -> Tensor:
    """Causal attention of queries (B, H, T, D) over keys and values (B, H, *, D); returns (B, T, C).

    A single query is the newest position and attends to all keys; otherwise there are as many queries as keys.
    """
    is_last = q.size(2) < k.size(2)
    with torch.autocast(q.device.type, enabled=False):
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout_p, is_causal=not is_last)
    return y.transpose(1, 2).flatten(2)
