"""Samples of any length, one character at a time."""

import gc
from types import SimpleNamespace

import pytest
import torch

from chargpt_lightning import GPT, CharGPT, GPTConfig, ModernGPT
from chargpt_lightning.callbacks.samples import LogSamples
from chargpt_lightning.sampling import generation
from chargpt_lightning.sampling.config import SampleConfig
from chargpt_lightning.sampling.generation import continue_prompt, draw, generate
from chargpt_lightning.sampling.next_character import next_ids
from chargpt_lightning.utils.errors import ConfigError


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

    monkeypatch.setattr(generation, "next_ids", watched)
    for characters in (11, 160):
        drawn = []
        draw(module, SampleConfig(max_new_tokens=characters))
    short, early, late = alive
    assert short == early == late


@pytest.mark.parametrize("architecture", [GPT, ModernGPT])
def test_each_character_comes_with_the_logits_that_it_was_drawn_from(architecture):
    gpt, config = network(architecture=architecture), SampleConfig(temperature=0.0, max_new_tokens=20)
    for texts, logits in draw(gpt, torch.tensor([1]), [0, 1], config):
        assert texts[:, -1].tolist() == logits.argmax(dim=-1).tolist()
