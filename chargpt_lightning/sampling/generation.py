"""Generates text one character at a time."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor

from chargpt_lightning.sampling.config import SampleConfig
from chargpt_lightning.sampling.next_character import next_ids
from chargpt_lightning.utils.errors import ConfigError


class Network(Protocol):
    """What CharGPT requires of its network, which is an nn.Module; `LanguageModel` is an example."""

    def __call__(self, ids: Tensor) -> Tensor:
        """Maps ids (B, T) to the logits of the next character at every position (B, T, V)."""

    def new_caches(self) -> Any:
        """Returns empty caches for `next_logits`."""

    def next_logits(self, ids: Tensor, caches: Any) -> Tensor:
        """Maps ids (B, T) to the logits of the next characters (B, V)."""


def ignore(ids: Tensor) -> None:
    """Does nothing with the ids of drawn characters (B,)."""


@torch.no_grad()
def draw(
    network: Network, prompt: Tensor, samples: Iterable[int], config: SampleConfig
) -> Iterator[tuple[Tensor, Tensor]]:
    """Draws several continuations of a prompt in parallel, one character at a time.

    Autocast is off, so that a sample does not depend on those generated in the same batch.

    Args:
        network: Network that predicts the next character.
        prompt: Ids (T,).
        samples: Numbers of the samples; sample n depends only on the seed and on n.
        config: Number of characters, and how each is drawn.

    Yields:
        The texts after each character, ids (B, T + 1) to (B, T + max_new_tokens), all views of one tensor, and the
        logits (B, V) that the character was drawn from.

    Raises:
        ConfigError: If the prompt is empty.
    """
    if not len(prompt):
        raise ConfigError("prompt ('') must contain at least one character")
    uniforms = torch.stack([config.uniforms(n) for n in samples]).to(prompt.device)  # (B, max_new_tokens)
    texts = torch.cat([prompt.expand(len(uniforms), -1), torch.empty_like(uniforms, dtype=prompt.dtype)], dim=1)
    caches = network.new_caches()
    for step in range(config.max_new_tokens):  # iterating over `uniforms.T` would create all its rows at once
        length = len(prompt) + step
        with torch.autocast(prompt.device.type, enabled=False):
            logits = network.next_logits(texts[:, :length], caches)
        texts[:, length] = next_ids(logits, config, uniforms[:, step])
        yield texts[:, : length + 1], logits


def generate(network: Network, prompt: Tensor, samples: Iterable[int], config: SampleConfig) -> Iterator[Tensor]:
    """Yields the next id of each sample (B,), max_new_tokens times; otherwise like `draw`."""
    for texts, _ in draw(network, prompt, samples, config):
        yield texts[:, -1]


def continue_prompt(
    network: Network,
    prompt: Tensor,
    samples: Iterable[int],
    config: SampleConfig,
    on_drawn: Callable[[Tensor], object] = ignore,
) -> Tensor:
    """Returns the prompt and its continuations, ids (B, T + max_new_tokens); otherwise like `draw`.

    `on_drawn` is called with the next id of each sample (B,) as soon as it is drawn.
    """
    for texts, _ in draw(network, prompt, samples, config):
        on_drawn(texts[:, -1])
    return texts
