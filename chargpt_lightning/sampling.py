"""From logits to the next character, and on, one character at a time.

The defaults are nanoGPT's (its `sample.py`).
"""

import random
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chargpt_lightning.errors import ConfigError, require_at_least_one


@dataclass(frozen=True)
class SampleConfig:
    """What to sample, and how.

    Args:
        prompt: The text that every sample continues. `FILE:name` takes it from a file.
        num_samples: Number of samples to draw.
        max_new_tokens: Characters to draw after the prompt.
        temperature: Below 1 the likely characters gain, above 1 the unlikely ones; 0 always takes the likeliest.
        top_k: Draw from the k likeliest characters only; null draws from all.
        top_p: Draw from the fewest characters that have this probability together; null draws from all.
        seed: Sample n depends on this and n only.

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

    def __post_init__(self) -> None:
        require_at_least_one(num_samples=self.num_samples, max_new_tokens=self.max_new_tokens, top_k=self.top_k)
        if not 0 <= self.temperature < float("inf"):
            raise ConfigError(f"temperature ({self.temperature}) must be 0 or more, and finite")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p ({self.top_p}) must be above 0 and at most 1")

    def generator(self, n: int, device: torch.device) -> torch.Generator:
        """The random numbers of sample n, on `device`."""
        return torch.Generator(device).manual_seed(derived_seed(self.seed, n))


def derived_seed(*numbers: int) -> int:
    """A seed of its own, of 32 bits, for each tuple: a sum would make sample 1 of seed 0 sample 0 of seed 1."""
    return random.Random("/".join(map(str, numbers))).getrandbits(32)


def next_id(logits: Tensor, config: SampleConfig, generator: torch.Generator) -> Tensor:
    """Draws the next character.

    Ties at the k-th logit are all kept, as nanoGPT keeps them. Top-p comes after top-k and always keeps the
    likeliest character (Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration").

    Args:
        logits: (B, V), one row a text.
        config: Temperature, top_k and top_p.
        generator: Where the random numbers come from; unused at temperature 0.

    Returns:
        Ids (B, 1).
    """
    if config.temperature == 0:
        return logits.argmax(dim=-1, keepdim=True)
    logits = logits.float() / config.temperature
    if config.top_k is not None:
        smallest_kept = logits.topk(min(config.top_k, logits.size(-1))).values[:, -1:]
        logits = logits.masked_fill(logits < smallest_kept, -torch.inf)
    probabilities = F.softmax(logits, dim=-1)
    if config.top_p is not None:
        ordered, order = probabilities.sort(dim=-1, descending=True)
        before = ordered.cumsum(dim=-1) - ordered  # the probability of all that is likelier
        kept = ordered.masked_fill(before >= config.top_p, 0.0)
        probabilities = torch.zeros_like(probabilities).scatter(-1, order, kept)
    return torch.multinomial(probabilities, num_samples=1, generator=generator)


@torch.no_grad()
def generate(
    network: nn.Module, ids: Tensor, block_size: int, config: SampleConfig, generator: torch.Generator
) -> Tensor:
    """Continues texts, one character at a time.

    Args:
        network: Ids (B, T) to logits (B, T, V).
        ids: The prompts (B, T), T at least 1.
        block_size: The last so many characters are what the network sees.
        config: How many characters, and how each is drawn.
        generator: Where the random numbers come from.

    Returns:
        The prompts and their continuations (B, T + max_new_tokens).
    """
    for _ in range(config.max_new_tokens):
        logits = network(ids[:, -block_size:])[:, -1]  # (B, V)
        ids = torch.cat([ids, next_id(logits, config, generator)], dim=1)
    return ids
