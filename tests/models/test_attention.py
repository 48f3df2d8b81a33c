"""Causal self-attention and its key-value cache, against formulas written out."""

import math

import pytest
import torch

from chargpt_lightning.models.attention import KVCache, attend, split_heads

B, H, T, D = 2, 3, 5, 4


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def test_attention_is_the_softmax_of_scaled_products_with_earlier_positions():
    q, k, v = random(3, B, H, T, D)
    scores = (q @ k.mT / math.sqrt(D)).masked_fill(torch.ones(T, T).triu(1).bool(), -math.inf)
    expected = (scores.softmax(dim=3) @ v).transpose(1, 2).flatten(2)
    torch.testing.assert_close(attend(q, k, v, dropout_p=0.0), expected, atol=1e-6, rtol=1e-6)


def test_a_single_query_attends_to_all_keys():
    q, k, v = random(3, B, H, T, D)
    last = attend(q[:, :, -1:], k, v, dropout_p=0.0)
    torch.testing.assert_close(last, attend(q, k, v, dropout_p=0.0)[:, -1:], atol=1e-6, rtol=1e-6)


def test_heads_are_consecutive_channels_of_queries_keys_and_values():
    qkv = random(B, T, 3 * H * D)
    for part, heads in enumerate(split_heads(qkv, H)):
        assert heads.shape == (B, H, T, D)
        for head in range(H):
            start = part * H * D + head * D
            assert torch.equal(heads[:, head], qkv[:, :, start : start + D])


@pytest.mark.parametrize(
    ("dtype", "on_cpu"),
    [(torch.bfloat16, torch.float32), (torch.float32, torch.float32), (torch.float64, torch.float64)],
)
def test_a_cpu_attends_in_float32_at_least(dtype, on_cpu):
    assert {part.dtype for part in split_heads(random(B, T, 3 * H * D).to(dtype), H)} == {on_cpu}
    with torch.autocast("cpu", torch.bfloat16):
        assert attend(*random(3, B, H, T, D).to(on_cpu), dropout_p=0.0).dtype == on_cpu


def test_the_cache_keeps_the_last_block_of_positions():
    cache, keys, values = KVCache(block_size=4), random(B, H, 7, D), random(B, H, 7, D) + 10
    kept = cache.extend(keys[:, :, :3], values[:, :, :3])
    assert torch.equal(torch.stack(kept), torch.stack([keys[:, :, :3], values[:, :, :3]]))
    for end in range(4, 8):
        kept = cache.extend(keys[:, :, end - 1 : end], values[:, :, end - 1 : end])
        for part, all_positions in zip(kept, (keys, values), strict=True):
            expected = {tuple(position.flatten().tolist()) for position in all_positions[:, :, end - 4 : end].unbind(2)}
            assert {tuple(position.flatten().tolist()) for position in part.unbind(2)} == expected


def test_the_cache_takes_memory_for_the_text_not_for_the_block():
    cache = KVCache(block_size=2**50)
    for _ in range(5):
        keys, _ = cache.extend(*random(2, B, H, 1, D))
    assert keys.size(2) == 5
    assert cache.keys.size(2) == 8
