"""How the next character is drawn."""

import pytest
import torch

from chargpt_lightning import GPT, GPTConfig
from chargpt_lightning.errors import ConfigError
from chargpt_lightning.sampling import SampleConfig, generate, next_id

LOGITS = torch.tensor([[1.0, 3.0, 2.0, 3.0, 0.0]])
CPU = torch.device("cpu")


def drawn(logits=LOGITS, draws=4000, **settings) -> torch.Tensor:
    """How often each id was drawn, as a share."""
    config = SampleConfig(**{"temperature": 1.0, "top_k": None} | settings)
    ids = next_id(logits.expand(draws, -1), config, config.generator(0, CPU))
    assert ids.shape == (draws, 1)
    return torch.bincount(ids.flatten(), minlength=5) / draws


def network() -> GPT:
    torch.manual_seed(0)
    gpt = GPT(GPTConfig(vocab_size=5, block_size=4, n_layer=1, n_head=1, n_embd=8)).eval()
    torch.nn.init.normal_(gpt.transformer.wte.weight)
    return gpt


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_characters_come_as_often_as_the_softmax_says(temperature):
    expected = torch.softmax(LOGITS[0] / temperature, dim=0)
    torch.testing.assert_close(drawn(temperature=temperature), expected, atol=0.03, rtol=0)


def test_temperature_zero_takes_the_likeliest():
    assert drawn(temperature=0.0)[1] == 1.0


def test_top_k_draws_from_the_k_likeliest():
    assert (drawn(top_k=3) > 0).tolist() == [False, True, True, True, False]


def test_ties_at_the_kth_place_are_all_kept():
    assert (drawn(top_k=1) > 0).tolist() == [False, True, False, True, False]


def test_top_k_above_the_vocabulary_changes_nothing():
    assert torch.equal(drawn(top_k=200), drawn())


def test_top_p_draws_from_the_fewest_that_reach_it():
    logits = torch.log(torch.tensor([[0.1, 0.5, 0.05, 0.3, 0.05]]))
    assert (drawn(logits, top_p=0.75) > 0).tolist() == [False, True, False, True, False]
    assert (drawn(logits, top_p=0.85) > 0).tolist() == [True, True, False, True, False]
    torch.testing.assert_close(drawn(logits, top_p=0.75)[1], torch.tensor(0.5 / 0.8), atol=0.03, rtol=0)


def test_a_tiny_top_p_keeps_the_likeliest():
    assert drawn(torch.tensor([[0.0, 2.0, 1.0, 0.0, 0.0]]), top_p=1e-9)[1] == 1.0


def test_sample_n_depends_on_seed_and_n_only():
    def numbers(seed, n):
        return torch.rand(4, generator=SampleConfig(seed=seed).generator(n, CPU)).tolist()

    assert numbers(1, 2) == numbers(1, 2)
    assert len({tuple(numbers(seed, n)) for seed in range(5) for n in range(5)}) == 25


def test_the_network_sees_the_last_block_size_characters():
    seen = []

    def spy(ids):
        seen.append(ids.tolist())
        return gpt(ids)

    gpt, config = network(), SampleConfig(max_new_tokens=3, temperature=0.0)
    ids = generate(spy, torch.tensor([[0, 1, 2]]), 4, config, config.generator(0, CPU))
    full = ids[0].tolist()
    assert seen == [[full[:3]], [full[:4]], [full[1:5]]]


def test_the_prompt_is_kept_and_the_length_is_right():
    config = SampleConfig(max_new_tokens=7)
    ids = generate(network(), torch.tensor([[4, 3]]), 4, config, config.generator(0, CPU))
    assert ids.shape == (1, 9)
    assert ids[0, :2].tolist() == [4, 3]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"num_samples": 0}, "num_samples (0) must be at least 1"),
        ({"max_new_tokens": 0}, "max_new_tokens (0) must be at least 1"),
        ({"top_k": 0}, "top_k (0) must be at least 1"),
        ({"temperature": -0.1}, "temperature (-0.1) must be 0 or more, and finite"),
        ({"temperature": float("nan")}, "temperature (nan) must be 0 or more, and finite"),
        ({"top_p": 0.0}, "top_p (0.0) must be above 0 and at most 1"),
        ({"top_p": 1.1}, "top_p (1.1) must be above 0 and at most 1"),
    ],
)
def test_settings_out_of_range_are_refused(setting, message):
    with pytest.raises(ConfigError) as error:
        SampleConfig(**setting)
    assert str(error.value) == message
