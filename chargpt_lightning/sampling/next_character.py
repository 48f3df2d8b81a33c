"""Draws the next character from logits."""

import torch
from torch import Tensor
from torch.nn import functional as F

from chargpt_lightning.sampling.config import SampleConfig

MIN_TEMPERATURE = 1e-30  # below this, dividing float32 logits could overflow or divide by 0


def next_probabilities(logits: Tensor, config: SampleConfig) -> Tensor:
    """Returns the probabilities that the next characters are drawn with.

    All ties at the k-th logit are kept, as in nanoGPT. Top-p filtering (Holtzman et al. 2020, "The Curious Case of
    Neural Text Degeneration") follows top-k and always keeps the most likely character.

    Args:
        logits: Logits (B, V), one row per text.
        config: Temperature, top_k and top_p.

    Returns:
        Probabilities (B, V). With top_p their sum may be below 1; only their ratios count.
    """
    if config.temperature < MIN_TEMPERATURE:
        return F.one_hot(logits.argmax(dim=-1), logits.size(-1)).float()
    logits = logits.float() / config.temperature
    if config.top_k is not None and config.top_k < logits.size(-1):
        smallest_kept = logits.topk(config.top_k).values[:, -1:]
        logits = logits.masked_fill(logits < smallest_kept, -torch.inf)
    probabilities = F.softmax(logits, dim=-1)
    if config.top_p is None:
        return probabilities
    ordered, order = probabilities.sort(dim=-1, descending=True)
    before = ordered.cumsum(dim=-1) - ordered  # total probability of all more likely characters
    # `before > 0` keeps the most likely character even if float32 rounds top_p to 0.
    kept = ordered.masked_fill((before > 0) & (before >= config.top_p), 0.0)
    return torch.zeros_like(probabilities).scatter(-1, order, kept)


def next_ids(logits: Tensor, config: SampleConfig, uniforms: Tensor) -> Tensor:
    """Draws the next character of each text.

    Args:
        logits: Logits (B, V), one row per text.
        config: Temperature, top_k and top_p.
        uniforms: One random number per text (B,), uniform in [0, 1); unused if the temperature is below
            MIN_TEMPERATURE.

    Returns:
        Ids (B,).
    """
    # A uniform is at most 1 - 2**-24, so its product with the sum rounds to less than the sum: some id is always found.
    cumulative = next_probabilities(logits, config).cumsum(dim=-1)
    return (cumulative <= uniforms[:, None] * cumulative[:, -1:]).sum(dim=-1)
