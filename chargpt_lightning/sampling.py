"""Sampling: draws the next character from logits and generates text one character at a time.

The defaults are those of nanoGPT's `sample.py`.
"""

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chargpt_lightning.utils.errors import ConfigError, require_positive
from chargpt_lightning.vocab import Unknown

MIN_TEMPERATURE = 1e-30  # below this, dividing float32 logits could overflow or divide by 0


@dataclass(frozen=True)
class SampleConfig:
    """Settings for sampling text.

    Args:
        prompt: Text that every sample continues; `FILE:name` reads it from a file.
        num_samples: Number of samples to draw.
        max_new_tokens: Number of characters to draw after the prompt.
        temperature: Below 1 favors likely characters, above 1 unlikely ones; 0 (or less than 1e-30) always picks the
            most likely one.
        top_k: Draw only from the k most likely characters; null draws from all.
        top_p: Draw only from the smallest set of characters whose total probability reaches this; null draws from all.
        seed: Random seed; sample n depends only on it and on n.
        unknown: Characters of the prompt that are not in the vocabulary: `refuse` stops with an error, `skip` leaves
            them out with a warning.

    Raises:
        ConfigError: If a number is out of range.
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
        require_positive(num_samples=self.num_samples, max_new_tokens=self.max_new_tokens, top_k=self.top_k)
        if not 0 <= self.temperature < float("inf"):
            raise ConfigError(f"temperature ({self.temperature}) must be at least 0 and finite")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p ({self.top_p}) must be above 0 and at most 1")

    def uniforms(self, n: int) -> Tensor:
        """Returns the random numbers of sample n, one per character: (max_new_tokens,), uniform in [0, 1)."""
        generator = torch.Generator().manual_seed(derived_seed(self.seed, n))
        return torch.rand(self.max_new_tokens, generator=generator)


def derived_seed(*numbers: int) -> int:
    """Returns a 32-bit seed for a tuple of numbers. A sum would give (0, 1) and (1, 0) the same seed."""
    return random.Random("/".join(map(str, numbers))).getrandbits(32)


def next_ids(logits: Tensor, config: SampleConfig, uniforms: Tensor) -> Tensor:
    """Draws the next character of each text.

    All ties at the k-th logit are kept, as in nanoGPT. Top-p filtering (Holtzman et al. 2020, "The Curious Case of
    Neural Text Degeneration") follows top-k and always keeps the most likely character.

    Args:
        logits: Logits (B, V), one row per text.
        config: Temperature, top_k and top_p.
        uniforms: One random number per text (B,), uniform in [0, 1); unused if the temperature is below
            MIN_TEMPERATURE.

    Returns:
        Ids (B,).
    """
    if config.temperature < MIN_TEMPERATURE:
        return logits.argmax(dim=-1)
    logits = logits.float() / config.temperature
    if config.top_k is not None and config.top_k < logits.size(-1):
        smallest_kept = logits.topk(config.top_k).values[:, -1:]
        logits = logits.masked_fill(logits < smallest_kept, -torch.inf)
    probabilities = F.softmax(logits, dim=-1)
    if config.top_p is not None:
        ordered, order = probabilities.sort(dim=-1, descending=True)
        before = ordered.cumsum(dim=-1) - ordered  # total probability of all more likely characters
        # `before > 0` keeps the most likely character even if float32 rounds top_p to 0.
        kept = ordered.masked_fill((before > 0) & (before >= config.top_p), 0.0)
        probabilities = torch.zeros_like(probabilities).scatter(-1, order, kept)
    # A uniform is at most 1 - 2**-24, so its product with the sum rounds to less than the sum: some id is always found.
    cumulative = probabilities.cumsum(dim=-1)
    return (cumulative <= uniforms[:, None] * cumulative[:, -1:]).sum(dim=-1)


class Network(Protocol):
    """What CharGPT requires of its network, which is an nn.Module; `LanguageModel` is an example."""

    def __call__(self, ids: Tensor) -> Tensor:
        """Maps ids (B, T) to the logits of the next character at every position (B, T, V)."""

    def new_caches(self) -> Any:
        """Returns empty caches for `next_logits`."""

    def next_logits(self, ids: Tensor, caches: Any) -> Tensor:
        """Maps ids (B, T) to the logits of the next characters (B, V)."""


@contextmanager
def eval_mode(network: nn.Module) -> Iterator[None]:
    """Switches a network's dropout off in the context."""
    training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(training)


def ignore(ids: Tensor) -> None:
    """Does nothing with the ids of drawn characters (B,)."""


def generate(network: Network, prompt: Tensor, samples: Iterable[int], config: SampleConfig) -> Iterator[Tensor]:
    """Generates several continuations of a prompt in parallel, one character at a time.

    Autocast is off, so that a sample does not depend on those generated in the same batch.

    Args:
        network: Network that predicts the next character.
        prompt: Ids (T,).
        samples: Numbers of the samples; sample n depends only on the seed and on n.
        config: Number of characters, and how each is drawn.

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
    on_drawn: Callable[[Tensor], object] = ignore,
) -> Tensor:
    """Generates several complete continuations of a prompt; otherwise like `generate`.

    Args:
        network: Network that predicts the next character.
        prompt: Ids (T,).
        samples: Numbers of the samples; sample n depends only on the seed and on n.
        config: Number of characters, and how each is drawn.
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
    """Yields the texts after each character, (B, T + 1) to (B, T + max_new_tokens): views of a single tensor."""
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
        yield texts[:, : length + 1]
