"""Properties of every network: causality, dropout, and the shapes that it refuses."""

import pytest
import torch

from chargpt_lightning import GPT, GPTConfig, ModernGPT
from chargpt_lightning.utils.errors import ConfigError

TINY = {"vocab_size": 11, "block_size": 8, "n_layer": 2, "n_head": 2, "n_embd": 16}


@pytest.fixture(params=[(GPT, 1), (ModernGPT, 1), (ModernGPT, 5)], ids=["gpt2", "modern", "modern with n-grams"])
def build(request):
    """Builds a network of the architecture with weights far from their initial values."""

    def build(**changes):
        torch.manual_seed(0)
        architecture, n_gram = request.param
        network = architecture(GPTConfig(**TINY | {"n_gram": n_gram} | changes)).eval()
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        return network

    return build


def random_ids(batch: int = 3, time: int = 8) -> torch.Tensor:
    return torch.randint(11, (batch, time), generator=torch.Generator().manual_seed(1))


def test_future_tokens_do_not_change_past_logits(build):
    network, ids = build(), random_ids()
    changed = ids.clone()
    changed[:, 5:] = (ids[:, 5:] + 1) % 11
    before, after = network(ids), network(changed)
    torch.testing.assert_close(before[:, :5], after[:, :5], atol=0, rtol=0)
    assert not torch.isclose(before[:, 5:], after[:, 5:]).all(dim=2).any()


def test_every_past_token_changes_the_last_logits(build):
    network, ids = build(), random_ids()
    for position in range(8):
        changed = ids.clone()
        changed[:, position] = (ids[:, position] + 1) % 11
        assert not torch.allclose(network(ids)[:, -1], network(changed)[:, -1])


def test_texts_of_a_batch_do_not_affect_each_other(build):
    network, ids = build(), random_ids()
    torch.testing.assert_close(network(ids)[1:2], network(ids[1:2]), atol=1e-6, rtol=1e-6)


def test_an_empty_batch_has_empty_logits(build):
    assert build()(random_ids(batch=0)).shape == (0, 8, 11)  # on a device without a window to evaluate


def test_dropout_acts_in_training_only(build):
    network, ids = build(dropout=0.5), random_ids()
    assert torch.equal(network(ids), network(ids))
    network.train()
    assert not torch.equal(network(ids), network(ids))


@pytest.mark.parametrize("part", ["transformer.drop", "transformer.h.0.attn", "transformer.h.1.mlp"])
def test_dropout_is_in_every_part(build, part):
    network, ids = build(dropout=0.5), random_ids()
    network.get_submodule(part).train()
    assert not torch.equal(network(ids), network(ids))


def test_attention_dropout_is_in_the_attention(build):
    network, ids = build(dropout=0.5), random_ids()
    attention = network.transformer.h[0].attn.train()
    attention.resid_dropout.eval()
    assert not torch.equal(network(ids), network(ids))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_head": 3}, "n_embd (16) must be divisible by n_head (3)"),
        ({"n_layer": 0}, "n_layer (0) must be at least 1"),
        ({"n_layer": 10**9}, "n_layer (1000000000) must be at most 10000"),
        ({"vocab_size": 0}, "vocab_size (0) must be at least 1"),
        ({"block_size": -1}, "block_size (-1) must be at least 1"),
        ({"dropout": 1.0}, "dropout (1.0) must be at least 0 and below 1"),
        ({"dropout": float("nan")}, "dropout (nan) must be at least 0 and below 1"),
        ({"n_gram_dropout": -0.1}, "n_gram_dropout (-0.1) must be at least 0 and below 1"),
        ({"n_gram": 0}, "n_gram (0) must be at least 1"),
        ({"n_gram": 33}, "n_gram (33) must be at most 32"),
    ],
)
def test_an_impossible_network_is_refused(change, message):
    with pytest.raises(ConfigError) as error:
        GPTConfig(**TINY | change)
    assert str(error.value) == message


def test_a_text_longer_than_the_context_is_refused(build):
    with pytest.raises(ConfigError, match=r"ids \(9 characters\) must not be longer than block_size \(8\)"):
        build()(random_ids(time=9))


@pytest.mark.parametrize("network", [GPT, ModernGPT])
def test_operations_of_products_are_those_that_torch_counts(network):
    """Without the attention; PyTorch counts the backward of the first product as well."""
    config = GPTConfig(vocab_size=65, block_size=32, n_layer=3, n_head=2, n_embd=64)
    gpt = network(config)
    ids = torch.zeros(2, 32, dtype=torch.long)
    with torch.utils.flop_counter.FlopCounterMode(display=False) as counter:
        gpt(ids).sum().backward()
    products = sum(
        flop for operation, flop in counter.get_flop_counts()["Global"].items() if operation is torch.ops.aten.mm
    )
    attention = 12 * 3 * 64 * 32
    assert 64 * (gpt.flop_per_token() - attention) == products


def test_torch_exports_it_for_texts_of_any_number_and_length(build):
    network = build()
    dynamic = ({0: torch.export.Dim("B", max=2**31), 1: torch.export.Dim("T", min=1, max=8)},)
    exported = torch.export.export(network, (random_ids(),), dynamic_shapes=dynamic).module()
    for batch, time in ((1, 1), (3, 1), (1, 8), (5, 4)):
        ids = random_ids(batch, time)
        torch.testing.assert_close(exported(ids), network(ids))
