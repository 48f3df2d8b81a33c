"""From logits to the next character."""

import pytest
import torch

from chargpt_lightning.sampling.config import SampleConfig
from chargpt_lightning.sampling.next_character import next_ids, next_probabilities

LOGITS = torch.tensor([[1.0, 3.0, 2.0, 3.0, 0.0]])
LARGEST_UNIFORM = 1 - 2**-24  # of float32


def drawn(logits=LOGITS, draws=4000, **settings) -> torch.Tensor:
    """How often each id was drawn, as a share."""
    config = SampleConfig(**{"temperature": 1.0, "top_k": None, "max_new_tokens": draws} | settings)
    ids = next_ids(logits.expand(draws, -1), config, config.uniforms(0))
    assert ids.shape == (draws,)
    return torch.bincount(ids, minlength=5) / draws


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_characters_are_drawn_with_the_probabilities_of_the_softmax(temperature):
    expected = torch.softmax(LOGITS[0] / temperature, dim=0)
    torch.testing.assert_close(drawn(temperature=temperature), expected, atol=0.03, rtol=0)


def test_temperature_zero_takes_the_likeliest():
    assert drawn(temperature=0.0)[1] == 1.0


@pytest.mark.parametrize("temperature", [1e-300, 1e-45, 1e-38, 1e-31])
def test_a_temperature_too_small_for_float32_takes_the_likeliest(temperature):
    logits = torch.tensor([[1.0, 3000.0, 2000.0, -1.0]])
    assert next_ids(logits, SampleConfig(temperature=temperature), torch.tensor([0.5])).tolist() == [1]


@pytest.mark.parametrize("top_p", [1e-45, 1e-50, 5e-324])
def test_a_top_p_that_float32_rounds_to_zero_keeps_the_likeliest(top_p):
    config = SampleConfig(temperature=1.0, top_p=top_p)
    uniforms = torch.tensor([0.0, 0.5, 1 - 2**-24])
    assert next_ids(torch.tensor([[1.0, 3.0, 2.0, -1.0]]).expand(3, -1), config, uniforms).tolist() == [1, 1, 1]


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


@pytest.mark.parametrize("chance", [0.0, LARGEST_UNIFORM])
@pytest.mark.parametrize("logits", [[0.0, -1e9, 3.0, -1e9], [-1e9, 2.0, 2.0, -1e9], [-1e9, -1e9, 0.1, -1e9]])
def test_a_character_without_probability_is_never_drawn(logits, chance):
    config = SampleConfig(temperature=1.0)
    drawn = next_ids(torch.tensor([logits]), config, torch.tensor([chance]))
    assert logits[int(drawn)] > -1e9


def test_the_largest_chance_draws_a_character_despite_rounding():
    torch.manual_seed(0)
    ids = next_ids(torch.randn(10_000, 65), SampleConfig(), torch.full((10_000,), LARGEST_UNIFORM))
    assert ids.max() < 65


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [0.1, 0.4, 0.2, 0.3]),
        ({"temperature": 0.5}, [1 / 30, 16 / 30, 4 / 30, 9 / 30]),
        ({"temperature": 0.0}, [0.0, 1.0, 0.0, 0.0]),
        ({"top_k": 2}, [0.0, 4 / 7, 0.0, 3 / 7]),
        ({"top_p": 0.75}, [0.0, 0.4, 0.2, 0.3]),
    ],
)
def test_probabilities_are_those_computed_by_hand(settings, expected):
    config = SampleConfig(**{"temperature": 1.0, "top_k": None} | settings)
    probabilities = next_probabilities(torch.log(torch.tensor([[0.1, 0.4, 0.2, 0.3]])), config)
    torch.testing.assert_close(probabilities, torch.tensor([expected]))
