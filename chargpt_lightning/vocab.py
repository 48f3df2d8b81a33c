"""Characters to ids and back. The alphabet, a string, is the whole vocabulary."""

import logging
import sys
from reprlib import Repr
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from chargpt_lightning.utils.errors import ConfigError

log = logging.getLogger(__name__)

Unknown = Literal["refuse", "skip"]  # what becomes of characters that are not in the alphabet

_CODE_POINT = np.dtype("<u4")  # what the codec utf-32-le writes for a character


class CharVocab:
    """The id of a character is its place in the alphabet.

    Args:
        alphabet: All characters, each once.

    Raises:
        ConfigError: If the alphabet is empty, holds a character twice, or a surrogate, which is half a character.
    """

    def __init__(self, alphabet: str) -> None:
        if not alphabet:
            raise ConfigError("alphabet ('') must hold at least one character")
        if len(set(alphabet)) != len(alphabet):
            raise ConfigError(f"alphabet ({alphabet!r}) must hold each character once")
        if any("\ud800" <= character <= "\udfff" for character in alphabet):
            raise ConfigError(f"alphabet ({shortened(alphabet)}) must hold no surrogates, because no text can")
        self.alphabet = alphabet
        self._characters = code_points(alphabet)
        self._ids: np.ndarray = np.full(sys.maxunicode + 1, -1, np.int16 if len(alphabet) <= 2**15 else np.int32)
        self._ids[self._characters] = np.arange(len(alphabet))

    @classmethod
    def of(cls, text: str) -> "CharVocab":
        """The vocabulary of a text: its characters, sorted by code point as nanoGPT sorts them."""
        return cls("".join(sorted(set(text))))

    @property
    def dtype(self) -> np.dtype[Any]:
        """The smallest type for ids that torch can index with: one byte up to 256 characters."""
        return np.dtype(np.uint8) if len(self.alphabet) <= 2**8 else self._ids.dtype

    def encode(self, text: str, name: str = "text") -> Tensor:
        """Looks up every character.

        Args:
            text: What to encode.
            name: What the text is called in the error.

        Returns:
            Ids (len(text),), int64.

        Raises:
            ConfigError: If a character is not in the alphabet; it names the first one and its place.
        """
        return torch.from_numpy(self.encode_chunk(text, 0, name).astype(np.int64))

    def encode_chunk(self, chunk: str, start: int, name: str, source: str = "") -> np.ndarray:
        """Looks up every character of a part of a text.

        Args:
            chunk: The part.
            start: Where in the text it starts.
            name: What the text is called in the error.
            source: Where the text lies, for the error.

        Returns:
            Ids (len(chunk),), of the vocabulary's own type.

        Raises:
            ConfigError: If a character is not in the alphabet; it names the first one and its place in the text.
        """
        ids = self._ids.take(code_points(chunk))  # which is twice as quick as an index
        unknown = ids < 0
        if unknown.any():
            place = int(unknown.argmax())
            of_source = f" of {source}" if source else ""
            raise ConfigError(
                f"{name} ({chunk[place]!r} at position {start + place}{of_source}) must use the {len(self.alphabet)} "
                f"characters of the vocabulary only: {shortened(self.alphabet)}"
            )
        return ids.astype(self.dtype, copy=False)

    def sift(self, text: str) -> tuple[str, str]:
        """The characters of a text that are in the alphabet, and those that are not, each as often as they occur."""
        alphabet = set(self.alphabet)
        known = "".join(character for character in text if character in alphabet)
        unknown = "".join(character for character in text if character not in alphabet)
        return known, unknown

    def decode(self, ids: Tensor) -> str:
        """The text of ids (T,)."""
        return self._characters[ids.cpu().numpy()].tobytes().decode("utf-32-le")


def shortened(text: str) -> str:
    """A text for a line: in quotes, escaped, and cut in the middle if it is long."""
    shortener = Repr()
    shortener.maxstring = 200
    return shortener.repr(text)


def code_points(text: str) -> np.ndarray:
    """The numbers (len(text),) that Unicode gives the characters of a text."""
    # A prompt typed in another encoding arrives with lone surrogates: let them through, to be named as unknown.
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=_CODE_POINT)


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
