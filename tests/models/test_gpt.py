"""GPT-2's network against nanoGPT's numbers and transformers' GPT-2."""

import math

import pytest
import torch
from torch.nn import functional as F

from chargpt_lightning import GPT, GPTConfig

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
    transformers = pytest.importorskip("transformers")
    network = gpt(bias=bias)
    torch.manual_seed(2)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    reference = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=11, n_positions=8, n_layer=2, n_head=2, n_embd=16, activation_function="gelu",
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=0,
        )
    ).eval()  # fmt: skip
    convolutions = ("c_attn.weight", "c_proj.weight", "c_fc.weight")  # transformers keeps these transposed
    weights = {k: v.t() if k.endswith(convolutions) else v for k, v in network.state_dict().items()}
    missing, unexpected = reference.load_state_dict(weights, strict=False)
    assert all(name.endswith("bias") for name in missing), "biases of transformers start at 0"
    assert bool(missing) is not bias
    assert unexpected == []
    torch.testing.assert_close(network(random_ids()), reference(random_ids()).logits, atol=1e-5, rtol=0)


def test_the_initial_loss_is_near_that_of_guessing():
    torch.manual_seed(0)
    network = GPT(GPTConfig(**RECIPE)).eval()
    ids = torch.randint(65, (16, 65))
    loss = F.cross_entropy(network(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
    assert abs(loss.item() - math.log(65)) < 0.1  # logits of std 0.02 * sqrt(128) cost 0.026 on average


def test_initial_weights_have_gpt2s_spread():
    network = GPT(GPTConfig(**RECIPE, bias=True))
    std = {name: parameter.std().item() for name, parameter in network.named_parameters() if parameter.dim() == 2}
    for name, value in std.items():
        assert value == pytest.approx(0.02 / math.sqrt(8) if name.endswith("c_proj.weight") else 0.02, rel=0.05), name
    for name, parameter in network.named_parameters():
        if parameter.dim() == 1:
            assert (parameter == (0.0 if name.endswith("bias") else 1.0)).all(), name
