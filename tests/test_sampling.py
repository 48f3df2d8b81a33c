"""From logits to the next character, and samples of any length."""

import gc
from types import SimpleNamespace

import pytest
import torch

from chargpt_lightning import GPT, CharGPT, GPTConfig, ModernGPT, sampling
from chargpt_lightning.callbacks.samples import LogSamples
from chargpt_lightning.sampling import SampleConfig, continue_prompt, generate, next_ids
from chargpt_lightning.utils.errors import ConfigError

LOGITS = torch.tensor([[1.0, 3.0, 2.0, 3.0, 0.0]])
LARGEST_UNIFORM = 1 - 2**-24  # of float32


def drawn(logits=LOGITS, draws=4000, **settings) -> torch.Tensor:
    """How often each id was drawn, as a share."""
    config = SampleConfig(**{"temperature": 1.0, "top_k": None, "max_new_tokens": draws} | settings)
    ids = next_ids(logits.expand(draws, -1), config, config.uniforms(0))
    assert ids.shape == (draws,)
    return torch.bincount(ids, minlength=5) / draws


def network(n_layer=3, block_size=8, architecture=GPT):
    torch.manual_seed(0)
    gpt = architecture(GPTConfig(vocab_size=5, block_size=block_size, n_layer=n_layer, n_head=2, n_embd=8)).eval()
    for parameter in gpt.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return gpt


def continued(gpt, prompt: list[int], samples=(0, 1, 2), **settings) -> list[list[int]]:
    """The new ids of each sample."""
    drawn = generate(gpt, torch.tensor(prompt), samples, SampleConfig(**settings))
    return torch.stack(list(drawn), dim=1).tolist()


class Uncached:
    """Samples as nanoGPT does: the last block_size characters through the whole network for each new one."""

    def __init__(self, gpt: GPT):
        self.gpt = gpt

    def new_caches(self):
        return None

    def next_logits(self, ids, caches):
        return self.gpt(ids[:, -self.gpt.config.block_size :])[:, -1]


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


def test_uniforms_depend_on_seed_and_n_only():
    def uniforms(seed, n, tokens=40):
        return SampleConfig(seed=seed, max_new_tokens=tokens).uniforms(n)

    assert torch.equal(uniforms(1, 2), uniforms(1, 2))
    assert torch.equal(uniforms(1, 2), uniforms(1, 2, tokens=1000)[:40])
    assert len({tuple(uniforms(seed, n).tolist()) for seed in range(5) for n in range(5)}) == 25


@pytest.mark.parametrize("settings", [{"temperature": 0.0}, {"temperature": 1.0}, {"top_k": 3}, {"top_p": 0.9}])
@pytest.mark.parametrize("prompt", [[1], [0, 1, 2, 3], [4, 3, 2, 1, 0, 1, 2, 3], [0, 1, 2, 3] * 5])
@pytest.mark.parametrize("n_layer", [1, 3])
def test_cached_and_uncached_samples_are_the_same_also_beyond_block_size(settings, prompt, n_layer):
    gpt = network(n_layer)
    settings |= {"max_new_tokens": 40}
    assert continued(gpt, prompt, **settings) == continued(Uncached(gpt), prompt, **settings)


@pytest.mark.parametrize("architecture", [GPT, ModernGPT])
def test_a_sample_does_not_depend_on_the_others_of_its_batch(architecture):
    gpt = network(architecture=architecture)
    together = continued(gpt, [1], range(5), max_new_tokens=40)
    assert [continued(gpt, [1], [n], max_new_tokens=40)[0] for n in range(5)] == together
    assert continued(gpt, [1], [4, 2], max_new_tokens=40) == [together[4], together[2]]
    assert len({tuple(sample) for sample in together}) == 5


def test_each_step_computes_only_the_positions_that_it_needs():
    gpt = network(n_layer=3, block_size=4)
    widths: list[list[int]] = [[], [], []]
    for block, seen in zip(gpt.transformer.h, widths, strict=True):
        block.mlp.register_forward_hook(lambda mlp, inputs, output, seen=seen: seen.append(output.size(1)))
    continued(gpt, [1, 2], max_new_tokens=5)
    assert widths == [[2, 1, 1, 4, 4], [2, 1, 1, 4, 4], [1, 1, 1, 1, 1]]


@pytest.mark.parametrize("architecture", [GPT, ModernGPT])
def test_autocast_does_not_change_samples(architecture):
    gpt = network(architecture=architecture)
    plain = continued(gpt, [1], max_new_tokens=40)
    with torch.autocast("cpu", torch.bfloat16):
        assert continued(gpt, [1], max_new_tokens=40) == plain


def test_characters_are_drawn_one_by_one():
    characters = generate(network(), torch.tensor([1]), [0, 1], SampleConfig(max_new_tokens=7))
    assert next(characters).shape == (2,)
    assert len(list(characters)) == 6


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"num_samples": 0}, "num_samples (0) must be at least 1"),
        ({"max_new_tokens": 0}, "max_new_tokens (0) must be at least 1"),
        ({"top_k": 0}, "top_k (0) must be at least 1"),
        ({"temperature": -0.1}, "temperature (-0.1) must be at least 0 and finite"),
        ({"temperature": float("nan")}, "temperature (nan) must be at least 0 and finite"),
        ({"top_p": 0.0}, "top_p (0.0) must be above 0 and at most 1"),
        ({"top_p": 1.1}, "top_p (1.1) must be above 0 and at most 1"),
    ],
)
def test_settings_out_of_range_are_refused(setting, message):
    with pytest.raises(ConfigError) as error:
        SampleConfig(**setting)
    assert str(error.value) == message


def test_an_empty_prompt_is_refused():
    with pytest.raises(ConfigError, match=r"prompt \(''\) must contain at least one character"):
        next(generate(network(), torch.tensor([], dtype=torch.long), [0], SampleConfig()))


def test_samples_are_the_prompt_followed_by_the_drawn_characters():
    characters = []
    gpt, prompt, config = network(), torch.tensor([1, 2]), SampleConfig(max_new_tokens=20)
    texts = continue_prompt(gpt, prompt, [0, 1], config, lambda ids: characters.append(ids.tolist()))
    assert texts.shape == (2, 22)
    assert texts[:, :2].tolist() == [[1, 2], [1, 2]]
    assert texts[:, 2:].T.tolist() == characters == [ids.tolist() for ids in generate(gpt, prompt, [0, 1], config)]


def by_generate(module, config):
    for _ in generate(module.gpt, torch.tensor([1]), [0, 1], config):
        pass


def by_sample(module, config):
    module.sample("b", config.max_new_tokens)


def by_predict_step(module, config):
    module.sampling = config
    module.eval().predict_step(([0, 1], torch.tensor([1])), 0)


def by_samples(module, config):
    data = SimpleNamespace(prompt_ids=torch.tensor([1]))
    LogSamples(config).on_validation_epoch_start(SimpleNamespace(datamodule=data, loggers=[]), module)


@pytest.mark.parametrize("draw", [by_generate, by_sample, by_predict_step, by_samples])
def test_a_longer_sample_keeps_no_more_tensors_alive(monkeypatch, draw):
    module = CharGPT("abcde", block_size=8, n_layer=1, n_head=2, n_embd=8)
    alive = []

    def watched(*args):
        if len(drawn) in (10, 150):
            gc.collect()
            alive.append(sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects()))
        drawn.append(None)
        return next_ids(*args)

    monkeypatch.setattr(sampling, "next_ids", watched)
    for characters in (11, 160):
        drawn = []
        draw(module, SampleConfig(max_new_tokens=characters))
    short, early, late = alive
    assert short == early == late
