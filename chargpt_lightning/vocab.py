"""Vocabulary: maps characters to ids and back, and encodes prompts."""

import logging
import sys
from reprlib import Repr
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from chargpt_lightning.utils.errors import ConfigError
from chargpt_lightning.utils.utf8 import is_encodable

log = logging.getLogger(__name__)

Unknown = Literal["refuse", "skip"]  # what to do with characters that are not in the vocabulary

_CODE_POINT = np.dtype("<u4")  # a character in the encoding utf-32-le


class CharVocab:
    """Vocabulary of characters; the id of a character is its index in the alphabet.

    Args:
        alphabet: All characters, each once.

    Raises:
        ConfigError: If the alphabet is empty, or contains a character twice or a surrogate (half of a UTF-16 pair).
    """

    def __init__(self, alphabet: str) -> None:
        if not alphabet:
            raise ConfigError("alphabet ('') must contain at least one character")
        if len(set(alphabet)) != len(alphabet):
            raise ConfigError(f"alphabet ({alphabet!r}) must contain each character once")
        if not is_encodable(alphabet):
            raise ConfigError(
                f"alphabet ({shortened(alphabet)}) must not contain surrogates, because no valid text contains them"
            )
        self.alphabet = alphabet
        self._characters = code_points(alphabet)
        self._ids: np.ndarray = np.full(sys.maxunicode + 1, -1, np.int16 if len(alphabet) <= 2**15 else np.int32)
        self._ids[self._characters] = np.arange(len(alphabet))

    @classmethod
    def of(cls, text: str) -> "CharVocab":
        """Returns the vocabulary of a text: its characters sorted by code point, as in nanoGPT."""
        return cls("".join(sorted(set(text))))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Smallest dtype for ids that torch can index with: one byte for up to 256 characters."""
        return np.dtype(np.uint8) if len(self.alphabet) <= 2**8 else self._ids.dtype

    def encode(self, text: str, name: str = "text") -> Tensor:
        """Encodes a text.

        Args:
            text: Text to encode.
            name: Name of the text in error messages.

        Returns:
            Ids (len(text),), int64.

        Raises:
            ConfigError: If a character is not in the alphabet; names the first such character and its position.
        """
        return torch.from_numpy(self.encode_chunk(text, 0, name).astype(np.int64))

    def encode_chunk(self, chunk: str, start: int, name: str, source: str = "") -> np.ndarray:
        """Encodes a chunk of a text.

        Args:
            chunk: Chunk to encode.
            start: Position of the chunk in the text.
            name: Name of the text in error messages.
            source: File of the text, for error messages.

        Returns:
            Ids (len(chunk),) of the vocabulary's dtype.

        Raises:
            ConfigError: If a character is not in the alphabet; names the first such character and its position in the
                text.
        """
        ids = self._ids.take(code_points(chunk))  # twice as fast as indexing
        unknown = ids < 0
        if unknown.any():
            first = int(unknown.argmax())
            of_source = f" of {source}" if source else ""
            raise ConfigError(
                f"{name} ({chunk[first]!r} at position {start + first}{of_source}) must use only the "
                f"{len(self.alphabet)} characters of the vocabulary: {shortened(self.alphabet)}"
            )
        return ids.astype(self.dtype, copy=False)

    def split_known(self, text: str) -> tuple[str, str]:
        """Splits a text into its characters that are in the alphabet and those that are not, in order."""
        alphabet = set(self.alphabet)
        known = "".join(character for character in text if character in alphabet)
        unknown = "".join(character for character in text if character not in alphabet)
        return known, unknown

    def decode(self, ids: Tensor) -> str:
        """Returns the text of ids (T,)."""
        return self._characters[ids.cpu().numpy()].tobytes().decode("utf-32-le")


def shortened(text: str) -> str:
    """Returns a text on one line for a message: quoted, escaped, and cut in the middle if it is long."""
    shortener = Repr()
    shortener.maxstring = 200
    return shortener.repr(text)


def visible(character: str) -> str:
    """Returns a character as it is shown in a text: the end of a line as an arrow, unprintable characters escaped."""
    if character == "\n":
        return "↵\n"
    return character if character.isprintable() else repr(character)[1:-1]


def code_points(text: str) -> np.ndarray:
    """Returns the Unicode code points (len(text),) of a text."""
    # A prompt typed in another encoding contains lone surrogates: they must pass, to be reported as unknown characters.
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=_CODE_POINT)


def encode_prompt(prompt: str, vocab: CharVocab, unknown: Unknown) -> Tensor:
    """Encodes a prompt; logs a warning if characters are skipped or replaced.

    Args:
        prompt: Text to continue. A newline, the default, is replaced by a character of the vocabulary without newlines.
        vocab: Vocabulary of the network.
        unknown: Whether characters that are not in the vocabulary are refused or skipped.

    Returns:
        Ids (T,) of the characters that remain.

    Raises:
        ConfigError: If a character is refused, or if no character remains.
    """
    if unknown not in get_args(Unknown):
        raise ConfigError(f"unknown ({unknown}) must be one of {', '.join(get_args(Unknown))}")
    if prompt == "\n" and prompt not in vocab.alphabet:
        prompt = vocab.alphabet[0]
        log.warning("prompt: %r, because the vocabulary has no newline", prompt)
    if unknown == "skip":
        prompt = _without_unknown(prompt, vocab)
    try:
        return vocab.encode(prompt, name="prompt")
    except ConfigError as error:
        known, _ = vocab.split_known(prompt)
        way_out = "; `--sample.unknown skip` leaves unknown characters out" if known else ""
        raise ConfigError(f"{error}{way_out}") from error


def _without_unknown(prompt: str, vocab: CharVocab) -> str:
    known, unknown = vocab.split_known(prompt)
    if not unknown:
        return prompt
    if not known:
        raise ConfigError(
            f"prompt ({shortened(prompt)}) must contain at least one character of the vocabulary: "
            f"{shortened(vocab.alphabet)}"
        )
    distinct = shortened("".join(dict.fromkeys(unknown)))
    log.warning("prompt: skipped %s (%d in all): not in the vocabulary", distinct, len(unknown))
    return known
