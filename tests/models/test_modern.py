"""The modern network: its parts, and its cache against attention to a band of the text without a cache."""

import math
from decimal import Decimal, localcontext

import pytest
import torch
from torch.nn import functional as F

from chargpt_lightning import GPTConfig, ModernGPT
from chargpt_lightning.models import modern
from chargpt_lightning.utils.errors import ConfigError

SHAPE = {"vocab_size": 11, "n_layer": 3, "n_head": 2, "n_embd": 16}


def network(block_size: int = 8, n_gram: int = 1, n_gram_dropout: float = 0.0) -> ModernGPT:
    torch.manual_seed(0)
    network = ModernGPT(GPTConfig(block_size=block_size, n_gram=n_gram, n_gram_dropout=n_gram_dropout, **SHAPE)).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return network


def random_ids(batch: int, time: int) -> torch.Tensor:
    return torch.randint(11, (batch, time), generator=torch.Generator().manual_seed(1))


def test_the_recipes_network_has_few_more_parameters_than_nanogpts():
    gpt = ModernGPT(GPTConfig(vocab_size=65, block_size=64, n_layer=4, n_head=4, n_embd=128))
    assert sum(parameter.numel() for parameter in gpt.parameters()) == 829_568
    assert set(dict(gpt.transformer.h[0].named_parameters())) == {
        *("ln_1.weight", "attn.c_attn.weight", "attn.ln_q.weight", "attn.ln_k.weight", "attn.c_proj.weight"),
        *("ln_2.weight", "mlp.c_fc.weight", "mlp.c_proj.weight"),
    }


def test_the_initial_loss_is_near_that_of_guessing():
    torch.manual_seed(0)
    gpt = ModernGPT(GPTConfig(vocab_size=65, block_size=64, n_layer=4, n_head=4, n_embd=128)).eval()
    ids = torch.randint(65, (16, 65))
    loss = F.cross_entropy(gpt(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
    assert abs(loss.item() - math.log(65)) < 0.25  # logits of variance 1/3 cost 1/6 on average


def test_products_of_rotated_vectors_depend_on_the_distance_only():
    q, k = torch.randn(2, 1, 1, 1, 16, generator=torch.Generator().manual_seed(0))
    cos_sin = modern.rope(torch.arange(40), head_size=16)
    product = torch.einsum(
        "bhtd,bhsd->ts", modern.apply_rope(q, cos_sin), modern.apply_rope(k, cos_sin)
    )  # of times t and s
    for distance in (0, 1, 7, 30):
        same = product.diagonal(-distance)
        torch.testing.assert_close(same, same[:1].expand_as(same), atol=1e-4, rtol=0)
    assert product.diagonal(-1)[0] != pytest.approx(product.diagonal(1)[0].item(), abs=1e-2)


def turn(position: int, frequency: Decimal) -> float:
    """The angle of a position in radians, less whole turns of 2 pi; all in 60 digits."""
    two_pi = 2 * Decimal("3.14159265358979323846264338327950288419716939937510582097494")
    return float(position * frequency % two_pi)


@pytest.mark.parametrize("position", [0, 63, 10_000, 10_000_000, 2**31])
def test_angles_are_exact_at_any_position(position):
    with localcontext(prec=60):
        angles = [turn(position, Decimal(10_000) ** -(Decimal(2 * pair) / 32)) for pair in range(16)]
    expected = torch.tensor([[[f(angle) for angle in angles]] for f in (math.cos, math.sin)], dtype=torch.float64)
    cos_sin = modern.rope(torch.tensor([position]), head_size=32)
    assert cos_sin.dtype == torch.float32
    torch.testing.assert_close(cos_sin.double(), expected, rtol=0, atol=5e-7)  # float64's angle at 2**31; else 3e-8


def test_rotation_keeps_lengths_and_leaves_the_first_position_alone():
    x = torch.randn(2, 3, 5, 8, generator=torch.Generator().manual_seed(0))
    rotated = modern.apply_rope(x, modern.rope(torch.arange(5), head_size=8))
    torch.testing.assert_close(rotated.norm(dim=3), x.norm(dim=3))
    assert torch.equal(rotated[:, :, 0], x[:, :, 0])


def test_n_grams_are_hashed_by_hand():
    bigrams, trigrams = modern.hashed_n_grams(torch.tensor([[4, 0, 64]]), longest=3)
    assert bigrams.tolist() == [[5 * 7919 % 32749, 1 * 7919 + 5, (65 * 7919 + 1) % 32749]]
    assert trigrams.tolist() == [
        [5 * 7919**2 % 32749, (1 * 7919 + 5) * 7919 % 32749, (65 * 7919**2 + 7919 + 5) % 32749]
    ]


def test_all_frequent_n_grams_of_a_large_alphabet_have_rows():
    ids = torch.randint(10_000, (1, 1000), generator=torch.Generator().manual_seed(0), dtype=torch.int32)
    for rows in modern.hashed_n_grams(ids, longest=32):
        assert 0 <= rows.min() <= rows.max() < modern.N_GRAM_ROWS
        assert rows.unique().numel() > 970  # 15 collisions are expected


def test_new_n_grams_change_nothing_until_they_are_trained():
    without, with_n_grams = (ModernGPT(GPTConfig(block_size=8, n_gram=n, **SHAPE)).eval() for n in (1, 5))
    with_n_grams.load_state_dict(without.state_dict(), strict=False)
    ids = random_ids(2, 8)
    assert torch.equal(without(ids), with_n_grams(ids))


def test_dropout_of_n_grams_drops_all_channels_of_one():
    embedding = network(n_gram=2, n_gram_dropout=0.5).transformer
    torch.nn.init.zeros_(embedding.wte.weight)
    embedding.ln_e = torch.nn.Identity()
    ids = random_ids(64, 8)
    whole, dropped = embedding.embed(ids), embedding.train().embed(ids)
    kept = (dropped != 0).any(dim=2)
    assert 0.4 < kept.float().mean() < 0.6
    torch.testing.assert_close(dropped, torch.where(kept[:, :, None], 2 * whole, 0))


@pytest.mark.parametrize(("n_gram", "width"), [(1, 4), (3, 4), (6, 6)])
def test_a_character_is_embedded_with_those_before_it(n_gram, width):
    embed = network(n_gram=n_gram).transformer.embed
    ids = random_ids(1, 8)
    before = embed(ids)
    for position in range(8):
        changed = ids.clone()
        changed[0, position] = (ids[0, position] + 1) % 11
        differs = (embed(changed) != before).any(dim=2)[0]
        assert differs.tolist() == [position <= place < position + width for place in range(8)]


@torch.no_grad()
@pytest.mark.parametrize("n_gram", [1, 5])
def test_cached_logits_are_those_of_attention_to_a_band_of_the_text(monkeypatch, n_gram):
    gpt, wide = network(block_size=8, n_gram=n_gram), network(block_size=40, n_gram=n_gram)
    ids = random_ids(3, 40)
    caches = gpt.new_caches()
    cached = [gpt.next_logits(ids[:, :length], caches) for length in range(5, 41)]

    def banded(q, k, v, dropout_p):
        distance = torch.arange(40)[:, None] - torch.arange(40)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=(distance >= 0) & (distance < 8))
        return y.transpose(1, 2).flatten(2)

    within = [gpt(ids[:, :length])[:, -1] for length in range(5, 9)]
    torch.testing.assert_close(torch.stack(cached[:4]), torch.stack(within), atol=1e-4, rtol=1e-4)
    monkeypatch.setattr(modern, "attend", banded)
    torch.testing.assert_close(torch.stack(cached, dim=1), wide(ids)[:, 4:], atol=1e-4, rtol=1e-4)
    monkeypatch.undo()
    assert not torch.allclose(cached[-1], wide(ids)[:, -1], atol=1e-2), "without the band it is another network"


@torch.no_grad()
def test_only_the_last_block_of_a_long_prompt_counts():
    gpt, ids = network(), random_ids(2, 20)
    torch.testing.assert_close(gpt.next_logits(ids, gpt.new_caches()), gpt(ids[:, -8:])[:, -1], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_each_position_is_computed_once_also_beyond_block_size():
    gpt = network(block_size=4)
    widths: list[int] = []
    gpt.transformer.h[0].register_forward_hook(lambda block, inputs, output: widths.append(output.size(1)))
    caches = gpt.new_caches()
    for length in range(2, 10):
        gpt.next_logits(random_ids(1, 10)[:, :length], caches)
    assert widths == [2, 1, 1, 1, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bias": True}, "bias (True) must be False, because the modern architecture has no biases"),
        (
            {"n_embd": 6},
            "n_embd (6) must be an even multiple of n_head (2), because RoPE rotates pairs of channels",
        ),
    ],
)
def test_settings_that_the_architecture_does_not_have_are_refused(change, message):
    with pytest.raises(ConfigError) as error:
        ModernGPT(GPTConfig(block_size=8, **SHAPE | change))
    assert str(error.value) == message
