"""The network against nanoGPT's figures, transformers' GPT-2, and what must hold of any GPT."""

import math

import pytest
import torch
from torch.nn import functional as F
from transformers import GPT2Config, GPT2LMHeadModel

from chargpt_lightning import GPT, GPTConfig
from chargpt_lightning.errors import ConfigError

RECIPE = {"vocab_size": 65, "block_size": 64, "n_layer": 4, "n_head": 4, "n_embd": 128}
TINY = {"vocab_size": 11, "block_size": 8, "n_layer": 2, "n_head": 2, "n_embd": 16}


def gpt(**changes) -> GPT:
    torch.manual_seed(0)
    return GPT(GPTConfig(**TINY | changes)).eval()


def random_ids(batch: int = 3, time: int = 8) -> torch.Tensor:
    return torch.randint(11, (batch, time), generator=torch.Generator().manual_seed(1))


def test_the_recipes_network_has_nanogpts_number_of_parameters():
    network = GPT(GPTConfig(**RECIPE))
    total = sum(parameter.numel() for parameter in network.parameters())
    assert total == 804_096
    assert total - network.transformer.wpe.weight.numel() == 795_904


def test_parameters_have_nanogpts_names_and_the_head_is_tied():
    network = gpt(n_layer=1, bias=True)
    weights = ["ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.c_proj"]
    assert set(network.state_dict()) == {
        "transformer.wte.weight",
        "transformer.wpe.weight",
        *(f"transformer.h.0.{name}.{kind}" for name in weights for kind in ("weight", "bias")),
        "transformer.ln_f.weight",
        "transformer.ln_f.bias",
        "lm_head.weight",
    }
    assert network.lm_head.weight is network.transformer.wte.weight


@pytest.mark.parametrize("bias", [False, True])
def test_against_transformers_gpt2(bias):
    ours = gpt(bias=bias)
    torch.manual_seed(2)
    for parameter in ours.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    theirs = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=11, n_positions=8, n_layer=2, n_head=2, n_embd=16, activation_function="gelu",
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=0,
        )
    ).eval()  # fmt: skip
    convolutions = ("c_attn.weight", "c_proj.weight", "c_fc.weight")  # transformers keeps these transposed
    weights = {k: v.t() if k.endswith(convolutions) else v for k, v in ours.state_dict().items()}
    missing, unexpected = theirs.load_state_dict(weights, strict=False)
    assert all(name.endswith("bias") for name in missing), "theirs starts at 0"
    assert bool(missing) is not bias
    assert unexpected == []
    torch.testing.assert_close(ours(random_ids()), theirs(random_ids()).logits, atol=1e-5, rtol=0)


def test_future_tokens_do_not_change_past_logits():
    network, ids = gpt(), random_ids()
    changed = ids.clone()
    changed[:, 5:] = (ids[:, 5:] + 1) % 11
    before, after = network(ids), network(changed)
    torch.testing.assert_close(before[:, :5], after[:, :5], atol=0, rtol=0)
    assert not torch.allclose(before[:, 5:], after[:, 5:])


def test_texts_of_a_batch_do_not_see_each_other():
    network, ids = gpt(), random_ids()
    torch.testing.assert_close(network(ids)[1:2], network(ids[1:2]), atol=1e-6, rtol=0)


def test_no_texts_give_no_logits():
    assert gpt()(random_ids(batch=0)).shape == (0, 8, 11)  # as on a device that has no window left to evaluate


def test_loss_at_initialisation_is_near_that_of_guessing():
    torch.manual_seed(0)
    network = GPT(GPTConfig(**RECIPE)).eval()
    ids = torch.randint(65, (16, 65))
    loss = F.cross_entropy(network(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
    assert abs(loss.item() - math.log(65)) < 0.1  # logits of std 0.02 * sqrt(128) cost 0.026 on average


def test_initial_spread_is_gpt2s():
    network = GPT(GPTConfig(**RECIPE, bias=True))
    std = {name: parameter.std().item() for name, parameter in network.named_parameters() if parameter.dim() == 2}
    for name, value in std.items():
        assert value == pytest.approx(0.02 / math.sqrt(8) if name.endswith("c_proj.weight") else 0.02, rel=0.05), name
    for name, parameter in network.named_parameters():
        if parameter.dim() == 1:
            assert (parameter == (0.0 if name.endswith("bias") else 1.0)).all(), name


def test_dropout_acts_in_training_only():
    network, ids = gpt(dropout=0.5), random_ids()
    assert torch.equal(network(ids), network(ids))
    network.train()
    assert not torch.equal(network(ids), network(ids))


def test_attention_dropout_is_in_the_attention():
    network = gpt(dropout=0.5)
    attention = network.transformer.h[0].attn.train()
    attention.resid_dropout.eval()
    x = torch.randn(1, 8, 16, generator=torch.Generator().manual_seed(0))
    assert not torch.equal(attention(x), attention(x))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_head": 3}, "n_embd (16) must be divisible by n_head (3)"),
        ({"n_layer": 0}, "n_layer (0) must be at least 1"),
        ({"vocab_size": 0}, "vocab_size (0) must be at least 1"),
        ({"block_size": -1}, "block_size (-1) must be at least 1"),
        ({"dropout": 1.0}, "dropout (1.0) must be at least 0 and below 1"),
        ({"dropout": float("nan")}, "dropout (nan) must be at least 0 and below 1"),
    ],
)
def test_a_network_that_cannot_be_is_refused(change, message):
    with pytest.raises(ConfigError) as error:
        GPTConfig(**TINY | change)
    assert str(error.value) == message


def test_a_text_longer_than_the_context_is_refused():
    with pytest.raises(ConfigError, match=r"ids \(9 characters\) must not be longer than block_size \(8\)"):
        gpt()(random_ids(time=9))
