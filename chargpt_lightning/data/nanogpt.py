"""nanoGPT's data folder: its alphabet, and its ids as a text.

Such a folder is what nanoGPT's data/shakespeare_char/prepare.py makes: `train.bin` and `val.bin`, ids of two bytes
each, and `meta.pkl`, a pickle of {"vocab_size": int, "itos": {int: str}, "stoi": {str: int}}. A pickle can run code
and use up all memory, so this one is loaded only if each of its instructions makes a plain value.
"""

import io
import pickle
import pickletools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from chargpt_lightning.data.text_files import Seen, read_chunks, watched
from chargpt_lightning.utils.atomic import write_atomically
from chargpt_lightning.utils.errors import ConfigError
from chargpt_lightning.vocab import code_points

_BINS = ("train.bin", "val.bin")
_ID = np.dtype("<u2")

MOST_META_BYTES = 2**23  # the 65,536 characters that two bytes can tell apart take less than half of it

_PLAIN = {  # without tuples, which as keys can take for ever to hash
    *("PROTO", "FRAME", "STOP", "MARK", "PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE", "GET", "BINGET", "LONG_BINGET"),
    *("DICT", "EMPTY_DICT", "SETITEM", "SETITEMS", "LIST", "EMPTY_LIST", "APPEND", "APPENDS"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "NONE", "NEWTRUE", "NEWFALSE"),
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "FLOAT", "BINFLOAT"),
}


@dataclass(frozen=True)
class DataFolder:
    """The ids of a folder as one text: what trains, then what validates.

    Args:
        path: The folder.
        alphabet: All characters in the order of their ids.
        ids: How many ids `train.bin` and `val.bin` hold, by name and in this order.
    """

    path: Path
    alphabet: str
    ids: dict[str, int]

    def raw_chunks(self) -> Iterator[bytes]:
        """The alphabet and the ids as bytes, behind a mark that no file in UTF-8 can have.

        Raises:
            ConfigError: If a file cannot be read, or has another length than it had.
        """
        yield self._head
        for name in self.ids:
            yield from self._read(name)

    def chunks(self, seen: Seen) -> Iterator[str]:
        """The characters, each as it is: nothing counts as a line end or as a byte order mark.

        Args:
            seen: Is shown the bytes of this reading, which are `raw_chunks` unless a file has changed.

        Raises:
            ConfigError: If a file cannot be read or has another length than it had, or if an id has no character.
        """
        seen(self._head)
        for name in self.ids:
            yield from _decode(watched(self._read(name), seen), self.alphabet, _said(self.path / name))

    @property
    def _head(self) -> bytes:
        return b"\xffnanoGPT\xff" + self.alphabet.encode() + b"\xff"

    def _read(self, name: str) -> Iterator[bytes]:
        path, size = self.path / name, 0
        for raw in read_chunks(path, _said(path)):
            size += len(raw)
            yield raw
        if size != self.ids[name] * _ID.itemsize:
            raise ConfigError(f"{_said(path)} must not change while it is read")


def open_folder(path: Path) -> DataFolder:
    """Finds what a folder holds, and leaves the ids themselves for later.

    Raises:
        ConfigError: If a file is missing, has no ids or half of one, or if the alphabet is none.
    """
    if missing := [name for name in (*_BINS, "meta.pkl") if not (path / name).is_file()]:
        raise ConfigError(
            f"{_said(path)} must be a file, or a folder that nanoGPT prepared for characters, "
            f"but has no {' and no '.join(missing)}"
        )
    return DataFolder(path, read_alphabet(path / "meta.pkl"), {name: _number_of_ids(path / name) for name in _BINS})


def _said(path: Path) -> str:
    return f"data.text ({path})"


def _number_of_ids(path: Path) -> int:
    size = path.stat().st_size
    if size % _ID.itemsize or not size:
        raise ConfigError(f"{_said(path)} must hold ids of two bytes each, at least one, but has {size:,} bytes")
    return size // _ID.itemsize


def _decode(chunks: Iterable[bytes], alphabet: str, said: str) -> Iterator[str]:
    """The characters of ids, which chunks cut in two only at the end of a file that has changed."""
    characters, done = code_points(alphabet), 0
    for raw in chunks:
        ids = np.frombuffer(raw, _ID, len(raw) // _ID.itemsize)
        unknown = ids >= len(characters)
        if unknown.any():
            place = int(unknown.argmax())
            raise ConfigError(
                f"{said} must hold ids below {len(characters)}, as many as meta.pkl has characters, "
                f"but has {ids[place]} at position {done + place}"
            )
        yield characters.take(ids).tobytes().decode("utf-32-le")
        done += len(ids)


def read_alphabet(path: Path) -> str:
    """The characters of a meta.pkl in the order of their ids, read without running any code in it.

    Raises:
        ConfigError: If the file cannot be read, is no whole pickle or holds code, or does not map ids from 0 on to
            different characters, or not back again.
    """
    said = f"alphabet ({path})"
    match _load_plain(_read_bounded(path, said), said):
        case {"itos": {0: _} as itos, **others}:
            alphabet = _joined(itos, said)
        case _:
            raise ConfigError(f"{said} must have an itos that maps ids from 0 on to characters")
    ids = {character: id for id, character in enumerate(alphabet)}
    if others.get("stoi", ids) != ids:
        raise ConfigError(f"{said} must have a stoi that maps back what itos maps")
    if others.get("vocab_size", len(ids)) != len(ids):
        raise ConfigError(f"{said} must have the vocab_size {len(ids)}, because itos has as many characters")
    return alphabet


def write_alphabet(path: Path, alphabet: str) -> None:
    """Writes the meta.pkl of characters that are given in the order of their ids.

    Raises:
        OSError: If it cannot be written.
    """
    itos = dict(enumerate(alphabet))
    stoi = {character: id for id, character in itos.items()}
    write_atomically(path, pickle.dumps({"vocab_size": len(alphabet), "itos": itos, "stoi": stoi}))


def _read_bounded(path: Path, said: str) -> bytes:
    content = bytearray()
    for raw in read_chunks(path, said):
        content += raw
        if len(content) > MOST_META_BYTES:
            raise ConfigError(f"{said} must have at most {MOST_META_BYTES:,} bytes, because no vocabulary has more")
    return bytes(content)


def _load_plain(content: bytes, said: str) -> Any:
    """What a pickle of dicts, lists, strings and numbers holds."""
    try:
        plain = all(_is_plain(code.name, arg, len(content)) for code, arg, _ in pickletools.genops(content))
        value = _PlainUnpickler(io.BytesIO(content)).load() if plain else None
    except Exception as error:  # what a damaged pickle raises depends on where it is damaged
        raise ConfigError(f"{said} must be a pickle that is whole") from error
    if not plain:
        raise ConfigError(f"{said} must hold no code, and nothing but dicts, lists, strings and numbers")
    return value


def _is_plain(instruction: str, arg: Any, size: int) -> bool:
    """Whether it makes a plain value, and remembers no more of them than a pickle of this size can hold."""
    return instruction in _PLAIN and not (instruction.endswith("PUT") and arg >= size)


class _PlainUnpickler(pickle.Unpickler):
    """A second lock: should an instruction slip through the first, it finds nothing that it could call."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"{module}.{name} is code")


def _joined(itos: dict[Any, Any], said: str) -> str:
    """The characters of the ids 0, 1, 2, ..., one behind the other."""
    seen: dict[str, int] = {}
    for id in range(len(itos)):
        character = itos.get(id)
        if not isinstance(character, str) or len(character) != 1 or "\ud800" <= character <= "\udfff":
            raise ConfigError(f"{said} must map ids from 0 on to single characters, but {id} has none")
        if seen.setdefault(character, id) != id:
            raise ConfigError(f"{said} must map each id to another character, but {seen[character]} and {id} share one")
    return "".join(seen)
