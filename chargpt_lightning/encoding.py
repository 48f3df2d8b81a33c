"""A text's facts and its ids as files in the user's cache: made once, and found again by the text's content."""

import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
from filelock import FileLock

from chargpt_lightning.corpus import Corpus, Part, cache_directory
from chargpt_lightning.errors import ConfigError
from chargpt_lightning.files import open_whole, write_whole
from chargpt_lightning.vocab import CharVocab, code_points

T = TypeVar("T")


@dataclass(frozen=True)
class TextFacts:
    """What there is to know of a text without reading it again.

    Args:
        raw_sha256: The SHA-256 of the bytes that decide its characters, by which its files in the cache are called.
        sha256: The SHA-256 of its characters in UTF-8, whatever its line ends and byte order mark are.
        characters: Number of characters.
        alphabet: Its characters, each once, sorted by code point.
    """

    raw_sha256: str
    sha256: str
    characters: int
    alphabet: str


def text_facts(corpus: Corpus) -> TextFacts:
    """The facts of a text; of one that is known, after a look at its bytes only.

    Raises:
        ConfigError: If the text cannot be read, is not UTF-8 or is empty, or if the cache cannot be written.
    """
    digest = hashlib.sha256()
    for raw in corpus.raw_chunks():
        digest.update(raw)
    path = _texts() / f"{digest.hexdigest()}.json"
    return _found_or_made(lambda: _read_facts(path), lambda: _write_facts(path, corpus))


def text_ids(corpus: Corpus, facts: TextFacts, vocab: CharVocab) -> Path:
    """The file of a text's ids (N,), each of the type `vocab.dtype`, and of nothing else.

    Raises:
        ConfigError: If the text has a character that the vocabulary has not, or is not what its facts were taken of,
            or if the cache cannot be written.
    """
    alphabet = hashlib.sha256(vocab.alphabet.encode("utf-8", "surrogatepass")).hexdigest()
    path = _texts() / f"{facts.raw_sha256}.{alphabet}.{vocab.dtype}"
    size = facts.characters * vocab.dtype.itemsize
    return _found_or_made(
        lambda: path if path.is_file() and path.stat().st_size == size else None,
        lambda: _write_ids(path, corpus, facts, vocab),
    )


def _texts() -> Path:
    return cache_directory() / "texts"


def _found_or_made(find: Callable[[], T | None], make: Callable[[], T]) -> T:
    """What is in the cache; if it is not, one process makes it, and others that want it wait."""
    if (found := find()) is not None:
        return found
    directory = _texts()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with FileLock(directory / ".lock"):
            found = find()  # another process may have been quicker
            return make() if found is None else found
    except OSError as error:
        raise ConfigError(
            f"the cache ({directory}) must be a directory that can be written, but: {error.strerror}; "
            "XDG_CACHE_HOME names another place"
        ) from error


def _read_facts(path: Path) -> TextFacts | None:
    try:
        return TextFacts(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):  # not there, or damaged
        return None


def _write_facts(path: Path, corpus: Corpus) -> TextFacts:
    digest, characters, seen = hashlib.sha256(), 0, np.zeros(sys.maxunicode + 1, bool)
    for chunk in corpus.chunks():
        digest.update(chunk.encode())
        characters += len(chunk)
        points = code_points(chunk)
        if not seen.take(points).all():  # to look is quicker than to write
            seen[points] = True
    alphabet = "".join(map(chr, np.flatnonzero(seen)))
    facts = TextFacts(path.stem, digest.hexdigest(), characters, alphabet)
    write_whole(path, json.dumps(asdict(facts)).encode())
    return facts


def _write_ids(path: Path, corpus: Corpus, facts: TextFacts, vocab: CharVocab) -> Path:
    with open_whole(path) as file:
        if sum(_write_part(file, part, vocab) for part in corpus.parts) != facts.characters:
            raise ConfigError(f"{corpus.said} must not change while it is read")
    return path


def _write_part(file: BinaryIO, part: Part, vocab: CharVocab) -> int:
    """Writes the ids of a part; gives their number."""
    done = 0
    for chunk in part.chunks():
        file.write(vocab.encode_chunk(chunk, done, "data.text", part.source).data)
        done += len(chunk)
    return done
