"""Characters to ids and back. The alphabet, a string, is the whole vocabulary."""

from reprlib import Repr

import numpy as np
import torch
from torch import Tensor

from chargpt_lightning.errors import ConfigError

_CODE_POINT = np.dtype("<u4")  # what the codec utf-32-le writes for a character


class CharVocab:
    """The id of a character is its place in the alphabet.

    Args:
        alphabet: All characters, each once.

    Raises:
        ConfigError: If the alphabet is empty or holds a character twice.
    """

    def __init__(self, alphabet: str) -> None:
        if not alphabet:
            raise ConfigError("alphabet ('') must hold at least one character")
        if len(set(alphabet)) != len(alphabet):
            raise ConfigError(f"alphabet ({alphabet!r}) must hold each character once")
        self.alphabet = alphabet
        self._characters = _code_points(alphabet)
        self._ids = np.full(int(self._characters.max()) + 1, -1)
        self._ids[self._characters] = np.arange(len(alphabet))

    @classmethod
    def of(cls, text: str) -> "CharVocab":
        """The vocabulary of a text: its characters, sorted by code point as nanoGPT sorts them."""
        return cls("".join(sorted(set(text))))

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
        characters = _code_points(text)
        ids = self._ids[np.minimum(characters, len(self._ids) - 1)]
        known = (ids >= 0) & (characters < len(self._ids))
        if not known.all():
            position = int(known.argmin())
            raise ConfigError(
                f"{name} ({text[position]!r} at position {position}) must use the {len(self.alphabet)} "
                f"characters of the vocabulary only: {_shortened(self.alphabet)}"
            )
        return torch.from_numpy(ids)

    def decode(self, ids: Tensor) -> str:
        """The text of ids (T,)."""
        return self._characters[ids.cpu().numpy()].tobytes().decode("utf-32-le")


def _shortened(alphabet: str) -> str:
    shortener = Repr()
    shortener.maxstring = 200
    return shortener.repr(alphabet)


def _code_points(text: str) -> np.ndarray:
    # A prompt typed in another encoding arrives with lone surrogates: let them through, to be named as unknown.
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=_CODE_POINT)
