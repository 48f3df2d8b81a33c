"""Reads nanoGPT's character-level data folders: alphabet and text.

nanoGPT's data/shakespeare_char/prepare.py writes such a folder: `train.bin` and `val.bin`, ids of two bytes each, and
`meta.pkl`, a pickle of {"vocab_size": int, "itos": {int: str}, "stoi": {str: int}}. A pickle can run code or exhaust
memory, so this one is loaded only if all its opcodes build plain values.
"""

import io
import pickle
import pickletools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from chargpt_lightning.data.text_files import OnRead, read_chunks, with_callback
from chargpt_lightning.utils.atomic import write_atomically
from chargpt_lightning.utils.errors import ConfigError
from chargpt_lightning.utils.utf8 import is_encodable
from chargpt_lightning.vocab import code_points

_BINS = ("train.bin", "val.bin")
_ID = np.dtype("<u2")

MAX_META_BYTES = 2**23  # more than twice what the 65,536 characters of two-byte ids need

_PLAIN_OPCODES = {  # no tuples: nested ones as dict keys can take forever to hash
    *("PROTO", "FRAME", "STOP", "MARK", "PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE", "GET", "BINGET", "LONG_BINGET"),
    *("DICT", "EMPTY_DICT", "SETITEM", "SETITEMS", "LIST", "EMPTY_LIST", "APPEND", "APPENDS"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "NONE", "NEWTRUE", "NEWFALSE"),
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "FLOAT", "BINFLOAT"),
}


@dataclass(frozen=True)
class DataFolder:
    """nanoGPT data folder, read as one text: the training split, then the validation split.

    Args:
        path: Path of the folder.
        alphabet: All characters in the order of their ids.
        ids: Number of ids in `train.bin` and `val.bin`, by file name, in this order.
    """

    path: Path
    alphabet: str
    ids: dict[str, int]

    def raw_chunks(self) -> Iterator[bytes]:
        """Yields alphabet and ids as bytes, after a header that cannot occur in a UTF-8 file.

        Raises:
            ConfigError: If a file cannot be read, or its length has changed.
        """
        yield self._header
        for name in self.ids:
            yield from self._read(name)

    def chunks(self, on_read: OnRead) -> Iterator[str]:
        """Yields the characters unchanged, including carriage returns and byte order marks.

        Args:
            on_read: Is called with each chunk of bytes that is read; these are `raw_chunks`, unless a file has changed.

        Raises:
            ConfigError: If a file cannot be read, its length has changed, or an id is not in the alphabet.
        """
        on_read(self._header)
        for name in self.ids:
            yield from _decode(with_callback(self._read(name), on_read), self.alphabet, _label(self.path / name))

    @property
    def _header(self) -> bytes:
        return b"\xffnanoGPT\xff" + self.alphabet.encode() + b"\xff"

    def _read(self, name: str) -> Iterator[bytes]:
        path, size = self.path / name, 0
        for raw in read_chunks(path, _label(path)):
            size += len(raw)
            yield raw
        if size != self.ids[name] * _ID.itemsize:
            raise ConfigError(f"{_label(path)} must not change while it is read")


def open_folder(path: Path) -> DataFolder:
    """Opens a data folder: reads its alphabet and the number of ids, but not the ids.

    Raises:
        ConfigError: If a file is missing, empty or ends within an id, or if the alphabet is invalid.
    """
    if missing := [name for name in (*_BINS, "meta.pkl") if not (path / name).is_file()]:
        raise ConfigError(
            f"{_label(path)} must be a file, or a character-level data folder from nanoGPT, "
            f"but has no {' and no '.join(missing)}"
        )
    return DataFolder(path, read_alphabet(path / "meta.pkl"), {name: _number_of_ids(path / name) for name in _BINS})


def _label(path: Path) -> str:
    return f"data.text ({path})"


def _number_of_ids(path: Path) -> int:
    size = path.stat().st_size
    if size % _ID.itemsize or not size:
        raise ConfigError(f"{_label(path)} must contain one or more ids of two bytes each, but has {size:,} bytes")
    return size // _ID.itemsize


def _decode(chunks: Iterable[bytes], alphabet: str, label: str) -> Iterator[str]:
    """Decodes chunks of ids; only a file that has changed can end within an id."""
    characters, position = code_points(alphabet), 0
    for raw in chunks:
        ids = np.frombuffer(raw, _ID, len(raw) // _ID.itemsize)
        unknown = ids >= len(characters)
        if unknown.any():
            first = int(unknown.argmax())
            raise ConfigError(
                f"{label} must contain only ids below {len(characters)}, the number of characters in meta.pkl, "
                f"but has {ids[first]} at position {position + first}"
            )
        yield characters.take(ids).tobytes().decode("utf-32-le")
        position += len(ids)


def read_alphabet(path: Path) -> str:
    """Reads the characters of a meta.pkl in the order of their ids, without running any code in it.

    Raises:
        ConfigError: If the file cannot be read, is not an intact pickle of plain values, or does not map ids from 0 on
            to distinct characters and back.
    """
    label = f"alphabet ({path})"
    match _load_plain(_read_bounded(path, label), label):
        case {"itos": {0: _} as itos, **others}:
            alphabet = _alphabet_of(itos, label)
        case _:
            raise ConfigError(f"{label} must have an itos that maps ids from 0 on to characters")
    ids = {character: id for id, character in enumerate(alphabet)}
    if others.get("stoi", ids) != ids:
        raise ConfigError(f"{label} must have a stoi that is the inverse of itos")
    if others.get("vocab_size", len(ids)) != len(ids):
        raise ConfigError(f"{label} must have vocab_size {len(ids)}, because itos has that many characters")
    return alphabet


def write_alphabet(path: Path, alphabet: str) -> None:
    """Writes the meta.pkl of an alphabet, whose characters are in the order of their ids.

    Raises:
        OSError: If the file cannot be written.
    """
    itos = dict(enumerate(alphabet))
    stoi = {character: id for id, character in itos.items()}
    write_atomically(path, pickle.dumps({"vocab_size": len(alphabet), "itos": itos, "stoi": stoi}))


def _read_bounded(path: Path, label: str) -> bytes:
    content = bytearray()
    for raw in read_chunks(path, label):
        content += raw
        if len(content) > MAX_META_BYTES:
            raise ConfigError(f"{label} must have at most {MAX_META_BYTES:,} bytes, because no vocabulary needs more")
    return bytes(content)


def _load_plain(content: bytes, label: str) -> Any:
    """Loads a pickle that contains only dicts, lists, strings and numbers."""
    try:
        plain = all(_is_plain(opcode.name, arg, len(content)) for opcode, arg, _ in pickletools.genops(content))
        value = _PlainUnpickler(io.BytesIO(content)).load() if plain else None
    except Exception as error:  # the exception depends on where a pickle is damaged
        raise ConfigError(f"{label} must be an intact pickle") from error
    if not plain:
        raise ConfigError(f"{label} must contain only dicts, lists, strings and numbers, and no code")
    return value


def _is_plain(opcode: str, arg: Any, size: int) -> bool:
    """Whether an opcode builds a plain value, and its number is possible in a pickle of this size (in bytes).

    A dict of a million numbers that have the same hash would take hours to build; below 2**60 hashes differ.
    """
    limit = size if opcode.endswith("PUT") else 2**60
    return opcode in _PLAIN_OPCODES and not (isinstance(arg, int) and abs(arg) >= limit)


class _PlainUnpickler(pickle.Unpickler):
    """Second line of defense: even an opcode that passed the first check finds nothing to call."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"{module}.{name} is code")


def _alphabet_of(itos: dict[Any, Any], label: str) -> str:
    """Returns the characters of ids 0, 1, 2, ... as a string."""
    ids: dict[str, int] = {}
    for id in range(len(itos)):
        character = itos.get(id)
        if not isinstance(character, str) or len(character) != 1 or not is_encodable(character):
            raise ConfigError(f"{label} must map ids from 0 on to single characters, but id {id} has none")
        if ids.setdefault(character, id) != id:
            raise ConfigError(
                f"{label} must map each id to a different character, but ids {ids[character]} and {id} share one"
            )
    return "".join(ids)
