"""From logits to the next character, and on, one character at a time.

The defaults are nanoGPT's (its `sample.py`).
"""

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chargpt_lightning.utils.errors import ConfigError, require_at_least_one
from chargpt_lightning.vocab import Unknown

COLDEST = 1e-30  # logits over less overflow float32, or are over its zero


@dataclass(frozen=True)
class SampleConfig:
    """What to sample, and how.

    Args:
        prompt: The text that every sample continues. `FILE:name` takes it from a file.
        num_samples: Number of samples to draw.
        max_new_tokens: Characters to draw after the prompt.
        temperature: Below 1 the likely characters gain, above 1 the unlikely ones; 0 (or less than 1e-30) always takes
            the likeliest.
        top_k: Draw from the k likeliest characters only; null draws from all.
        top_p: Draw from the fewest characters that have this probability together; null draws from all.
        seed: Sample n depends on this and n only.
        unknown: Whether a prompt's characters that the vocabulary has not are refused, or skipped and named.

    Raises:
        ConfigError: If a number is out of its range.
    """

    prompt: str = "\n"
    num_samples: int = 10
    max_new_tokens: int = 500
    temperature: float = 0.8
    top_k: int | None = 200
    top_p: float | None = None
    seed: int = 1337
    unknown: Unknown = "refuse"

    def __post_init__(self) -> None:
        require_at_least_one(num_samples=self.num_samples, max_new_tokens=self.max_new_tokens, top_k=self.top_k)
        if not 0 <= self.temperature < float("inf"):
            raise ConfigError(f"temperature ({self.temperature}) must be 0 or more, and finite")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p ({self.top_p}) must be above 0 and at most 1")

    def chances(self, n: int) -> Tensor:
        """The random numbers of sample n, one a character (max_new_tokens,), at least 0 and below 1."""
        generator = torch.Generator().manual_seed(derived_seed(self.seed, n))
        return torch.rand(self.max_new_tokens, generator=generator)


def derived_seed(*numbers: int) -> int:
    """A seed of its own, of 32 bits, for each tuple: a sum would make sample 1 of seed 0 sample 0 of seed 1."""
    return random.Random("/".join(map(str, numbers))).getrandbits(32)


def next_ids(logits: Tensor, config: SampleConfig, chances: Tensor) -> Tensor:
    """Draws the next character of each text.

    Ties at the k-th logit are all kept, as nanoGPT keeps them. Top-p comes after top-k and always keeps the
    likeliest character (Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration").

    Args:
        logits: (B, V), one row a text.
        config: Temperature, top_k and top_p.
        chances: A random number for each text (B,), at least 0 and below 1; unused below COLDEST.

    Returns:
        Ids (B,).
    """
    if config.temperature < COLDEST:
        return logits.argmax(dim=-1)
    logits = logits.float() / config.temperature
    if config.top_k is not None and config.top_k < logits.size(-1):
        smallest_kept = logits.topk(config.top_k).values[:, -1:]
        logits = logits.masked_fill(logits < smallest_kept, -torch.inf)
    probabilities = F.softmax(logits, dim=-1)
    if config.top_p is not None:
        ordered, order = probabilities.sort(dim=-1, descending=True)
        before = ordered.cumsum(dim=-1) - ordered  # the probability of all that is likelier
        kept = ordered.masked_fill((before > 0) & (before >= config.top_p), 0.0)  # float32 may round top_p to 0
        probabilities = torch.zeros_like(probabilities).scatter(-1, order, kept)
    up_to = probabilities.cumsum(dim=-1)  # a chance below 1 of the last, the sum, stays below it when rounded
    return (up_to <= chances[:, None] * up_to[:, -1:]).sum(dim=-1)


class Network(Protocol):
    """What `generate` asks of a network; `GPT` says what it means."""

    def new_pasts(self) -> Any:
        """What the network keeps of texts between two calls."""

    def next_logits(self, ids: Tensor, pasts: Any) -> Tensor:
        """Ids (B, T) to the logits of the next characters (B, V)."""


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Switches a network's dropout off in the context."""
    training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(training)


def generate(network: Network, prompt: Tensor, samples: Iterable[int], config: SampleConfig) -> Iterator[Tensor]:
    """Continues a prompt in several samples at once, one character at a time.

    In float32 even where autocast is on, so that a sample does not depend on those drawn beside it.

    Args:
        network: Predicts the next character.
        prompt: Ids (T,).
        samples: Numbers of the samples; sample n depends on the seed and n only.
        config: How many characters, and how each is drawn.

    Yields:
        The next id of each sample (B,), max_new_tokens times.

    Raises:
        ConfigError: If the prompt is empty.
    """
    for texts in _growing_texts(network, prompt, samples, config):
        yield texts[:, -1]


def continue_prompt(
    network: Network,
    prompt: Tensor,
    samples: Iterable[int],
    config: SampleConfig,
    on_drawn: Callable[[Tensor], object] = lambda ids: None,
) -> Tensor:
    """Continues a prompt in several samples at once, as `generate` does, to the end.

    Args:
        network: Predicts the next character.
        prompt: Ids (T,).
        samples: Numbers of the samples; sample n depends on the seed and n only.
        config: How many characters, and how each is drawn.
        on_drawn: Called with the next id of each sample (B,) as soon as it is drawn.

    Returns:
        The prompt and its continuations, ids (B, T + max_new_tokens).

    Raises:
        ConfigError: If the prompt is empty.
    """
    for texts in _growing_texts(network, prompt, samples, config):
        on_drawn(texts[:, -1])
    return texts


@torch.no_grad()
def _growing_texts(network: Network, prompt: Tensor, samples: Iterable[int], config: SampleConfig) -> Iterator[Tensor]:
    """The texts after each character, (B, T + 1) up to (B, T + max_new_tokens): views of a single tensor."""
    if not len(prompt):
        raise ConfigError("prompt ('') must hold at least one character")
    chances = torch.stack([config.chances(n) for n in samples]).to(prompt.device)  # (B, max_new_tokens)
    texts = torch.cat([prompt.expand(len(chances), -1), torch.empty_like(chances, dtype=prompt.dtype)], dim=1)
    pasts = network.new_pasts()
    for place in range(config.max_new_tokens):  # iterating over `chances` would make a tensor for every place at once
        drawn = len(prompt) + place
        with torch.autocast(prompt.device.type, enabled=False):
            logits = network.next_logits(texts[:, :drawn], pasts)
        texts[:, drawn] = next_ids(logits, config, chances[:, place])
        yield texts[:, : drawn + 1]
