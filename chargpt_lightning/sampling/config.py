"""Settings for sampling text, with the defaults of nanoGPT's `sample.py`, and the random numbers of a sample."""

import random
from dataclasses import dataclass

import torch
from torch import Tensor

from chargpt_lightning.utils.errors import ConfigError, require_positive
from chargpt_lightning.vocab import Unknown


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
