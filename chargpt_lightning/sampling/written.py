"""A text while it is drawn, with what the network expected at each of its characters."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from chargpt_lightning.sampling.config import SampleConfig
from chargpt_lightning.sampling.generation import Network, draw
from chargpt_lightning.vocab import CharVocab


@dataclass
class Written:
    """A text that continues a prompt, with the logits (V,) that each of its characters was drawn from."""

    vocab: CharVocab
    prompt: str
    text: str = ""
    logits: list[Tensor] = field(default_factory=list)


@torch.inference_mode()  # a sixth faster than no_grad
def record(network: Network, written: Written, config: SampleConfig) -> Iterator[None]:
    """Draws the first sample of a configuration into a text.

    Args:
        network: Network that predicts the next character, in eval mode.
        written: The text, whose prompt is continued.
        config: Number of characters, and how each is drawn; its prompt is not used.

    Yields:
        Nothing, after each character.

    Raises:
        ConfigError: If the prompt is empty, or not in the vocabulary.
    """
    for texts, logits in draw(network, written.vocab.encode(written.prompt), [0], config):
        written.logits.append(logits[0].clone())  # first: a reader in another thread finds them for all of the text
        written.text += written.vocab.decode(texts[0, -1:])
        yield
