"""How positions see each other: what the attention of every network here has in common.

Shapes: B batch, T time, C channels, H heads, D head size (C / H).
"""

import torch
from torch import Tensor
from torch.nn import functional as F


class Past:
    """Keys and values of the positions that an attention has seen last, so that they are computed once.

    Args:
        block_size: The most positions that are kept; beyond it a new one takes the place of the oldest.
    """

    def __init__(self, block_size: int) -> None:
        self.block_size = block_size
        self.length = 0  # positions seen, also those no longer kept
        self.keys = self.values = torch.empty(0)

    def extend(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Adds k and v (B, H, T, D) of the next positions; returns those that are kept, in no order.

        Beyond block_size positions come one at a time.
        """
        B, H, T, D = k.shape
        if self.length == 0:
            self.keys, self.values = k.new_empty(2, B, H, self.block_size, D)
        place = self.length % self.block_size
        self.length += T
        self.keys[:, :, place : place + T] = k
        self.values[:, :, place : place + T] = v
        return self.keys[:, :, : self.length], self.values[:, :, : self.length]


def split_heads(qkv: Tensor, n_head: int) -> tuple[Tensor, ...]:
    """Cuts qkv (B, T, 3C) into queries, keys and values, (B, H, T, D) each.

    On a CPU in float32 at least, even where autocast is on: bf16 makes attention's backward 4 times as long there.
    """
    if qkv.device.type == "cpu":
        qkv = qkv.to(torch.promote_types(qkv.dtype, torch.float32))
    B, T, C = qkv.shape
    return tuple(part.view(B, T, n_head, C // (3 * n_head)).transpose(1, 2) for part in qkv.chunk(3, dim=2))


def attend(q: Tensor, k: Tensor, v: Tensor, dropout_p: float) -> Tensor:
    """Causal attention of queries (B, H, T, D) to keys and values (B, H, *, D); returns (B, T, C).

    A single query is the newest position and sees all keys; several are as many as the keys.
    """
    with torch.autocast(q.device.type, enabled=False):
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout_p, is_causal=q.size(2) > 1)
    return y.transpose(1, 2).flatten(2)
