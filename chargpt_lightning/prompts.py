"""The prompt: from what the user says to ids."""

import logging
from pathlib import Path
from typing import get_args

from torch import Tensor

from chargpt_lightning.errors import ConfigError
from chargpt_lightning.reading import read_utf8
from chargpt_lightning.vocab import CharVocab, Unknown, shortened

log = logging.getLogger(__name__)


def read_prompt(prompt: str) -> str:
    """The prompt itself, or the text of the file that `FILE:name` names.

    Raises:
        ConfigError: If the file cannot be read, is empty, or is not UTF-8.
    """
    if prompt.startswith("FILE:"):
        return read_utf8(Path(prompt.removeprefix("FILE:")), name="prompt")
    return prompt


def encode_prompt(prompt: str, vocab: CharVocab, unknown: Unknown) -> Tensor:
    """Looks up the characters of a prompt, and says so if it leaves some out.

    Args:
        prompt: The text to continue.
        vocab: The characters that there are.
        unknown: Whether others are refused or skipped.

    Returns:
        Ids of the characters that are left (T,).

    Raises:
        ConfigError: If a character is refused, or if all are skipped.
    """
    if unknown not in get_args(Unknown):
        raise ConfigError(f"unknown ({unknown}) must be one of {', '.join(get_args(Unknown))}")
    if unknown == "skip":
        prompt = _without_unknown(prompt, vocab)
    try:
        return vocab.encode(prompt, name="prompt")
    except ConfigError as error:
        raise ConfigError(f"{error}; `--sample.unknown skip` leaves out what is unknown") from error


def _without_unknown(prompt: str, vocab: CharVocab) -> str:
    known, unknown = vocab.sift(prompt)
    if not unknown:
        return prompt
    if not known:
        raise ConfigError(
            f"prompt ({shortened(prompt)}) must hold at least one character of the vocabulary: "
            f"{shortened(vocab.alphabet)}"
        )
    different = shortened("".join(dict.fromkeys(unknown)))
    log.warning("prompt: skipped %s (%d in all), which the vocabulary has not", different, len(unknown))
    return known
