"""What a trained network can be asked: to continue a prompt, what comes next, how surprising a text is."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from chargpt_lightning.models.loss import cross_entropy
from chargpt_lightning.sampling.config import SampleConfig
from chargpt_lightning.sampling.generation import Network, continue_prompt, draw
from chargpt_lightning.sampling.next_character import next_probabilities
from chargpt_lightning.vocab import CharVocab, Unknown, encode_prompt

_vocab_of = lru_cache(maxsize=8)(CharVocab)  # takes 2 MB
WINDOWS = 16  # in a batch of `surprisals`: few, because logits of a large vocabulary take much memory


@contextmanager
def eval_mode(network: nn.Module) -> Iterator[None]:
    """Switches a network's dropout off in the context."""
    training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(training)


def ranked(logits: Tensor, config: SampleConfig, vocab: CharVocab) -> dict[str, float]:
    """Returns how likely each character is to be drawn from logits (V,), the likeliest first."""
    (kept,) = next_probabilities(logits[None], config)
    probabilities, order = (kept / kept.sum()).sort(descending=True, stable=True)
    return dict(zip(vocab.decode(order), probabilities.tolist(), strict=True))


@torch.no_grad()
def surprisals(network: Network, ids: Tensor, block_size: int) -> Tensor:
    """Rates each character of a text as an evaluation does: in windows, each of which starts without context.

    Args:
        network: Network that predicts the next character.
        ids: The text (T,).
        block_size: Characters in a window; the last one may be shorter.

    Returns:
        -ln p of all characters but the first, (T - 1,), in nats; their mean is the loss of the text.
    """
    found = [ids.new_zeros(0, dtype=torch.float32)]
    for inputs, targets in zip(_windows(ids[:-1], block_size), _windows(ids[1:], block_size), strict=True):
        found.append(cross_entropy(network(inputs), targets, "none"))
    return torch.cat(found)


def _windows(ids: Tensor, block_size: int) -> Iterator[Tensor]:
    """Yields ids (T,) in windows (up to WINDOWS, block_size), and then what remains as a shorter one."""
    end = len(ids) // block_size * block_size
    if end:
        yield from torch.split(ids[:end].view(-1, block_size), WINDOWS)
    if end < len(ids):
        yield ids[None, end:]


class TextMethods(nn.Module):
    """Base class of CharGPT: its methods that take or return text."""

    gpt: Any
    device: Any
    hparams: Any

    @property
    def vocab(self) -> CharVocab:
        """Characters to ids and back."""
        return _vocab_of(self.hparams["alphabet"])

    def sample(
        self,
        prompt: str = "\n",
        max_new_tokens: int = 500,
        temperature: float = 0.8,
        top_k: int | None = 200,
        top_p: float | None = None,
        seed: int = 1337,
        unknown: Unknown = "refuse",
    ) -> str:
        """Returns a prompt with its continuation, as the first sample of `predict`; the arguments are SampleConfig's.

        Raises:
            ConfigError: If a number is out of range, or the prompt is empty or not in the alphabet.
        """
        config = SampleConfig(prompt, 1, max_new_tokens, temperature, top_k, top_p, seed, unknown)
        ids = encode_prompt(prompt, self.vocab, unknown).to(self.device)
        with eval_mode(self.gpt):
            (text,) = continue_prompt(self.gpt, ids, [0], config)
        return self.vocab.decode(text)

    def next_probabilities(
        self, prompt: str, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
    ) -> dict[str, float]:
        """Returns how likely each character is to follow a prompt, the likeliest first.

        The other arguments are SampleConfig's. By default, the probabilities are the network's own.

        Raises:
            ConfigError: If a number is out of range, or the prompt is empty or not in the alphabet.
        """
        config = SampleConfig(prompt, 1, 1, temperature, top_k, top_p)
        ids = encode_prompt(prompt, self.vocab, config.unknown).to(self.device)
        with eval_mode(self.gpt):
            ((_, logits),) = draw(self.gpt, ids, [0], config)
        return ranked(logits[0], config, self.vocab)

    def surprisals(self, text: str) -> Tensor:
        """Returns how unlikely the network finds each character of a text but the first: -ln p, (T - 1,), in nats.

        They are computed in windows of block_size characters, each of which starts without context, as in `validate`,
        which leaves out a shorter window at the end: otherwise their mean is the loss. Divided by ln 2, they are bits.

        Raises:
            ConfigError: If a character is not in the alphabet.
        """
        with eval_mode(self.gpt):
            return surprisals(self.gpt, self.vocab.encode(text).to(self.device), self.hparams["block_size"])
