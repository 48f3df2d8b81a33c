"""A text's facts and its ids as files in the user's cache: made once, and found again by the text's content."""

import hashlib
import json
import logging
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from filelock import FileLock

from chargpt_lightning.data.corpus import Corpus, cache_directory
from chargpt_lightning.data.text_files import CHUNK_BYTES, Seen
from chargpt_lightning.utils.atomic import open_atomically, remove_parts, write_atomically
from chargpt_lightning.utils.errors import ConfigError
from chargpt_lightning.vocab import CharVocab, code_points

log = logging.getLogger(__name__)

T = TypeVar("T")
FORMAT = "2"  # of the files in the cache; those of another are not looked at


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
        ConfigError: If the text cannot be read, changes while it is read, is not UTF-8 or is empty, or if the cache
            cannot be written.
    """
    raw_sha256 = _raw_sha256(corpus)
    path = _texts() / f"{raw_sha256}.{FORMAT}.json"
    return _found_or_made(path, lambda: _read_facts(path), lambda: _write_facts(path, corpus, raw_sha256))


def text_ids(corpus: Corpus, facts: TextFacts, vocab: CharVocab) -> Path:
    """The file of a text's ids (N,), each of the type `vocab.dtype`, and of nothing else.

    Raises:
        ConfigError: If the text has a character that the vocabulary has not, or is not what its facts were taken of,
            or if the cache cannot be written.
    """
    alphabet = _sha256(vocab.alphabet)
    path = _texts() / f"{facts.raw_sha256}.{alphabet}.{FORMAT}.{vocab.dtype}"
    return _found_or_made(
        path,
        lambda: path if _is_intact(path, facts.characters * vocab.dtype.itemsize) else None,
        lambda: _write_ids(path, corpus, facts, vocab),
    )


def _texts() -> Path:
    return cache_directory() / "texts"


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _raw_sha256(corpus: Corpus) -> str:
    digest = hashlib.sha256()
    for raw in corpus.raw_chunks():
        digest.update(raw)
    return digest.hexdigest()


@contextmanager
def _read_unchanged(corpus: Corpus, raw_sha256: str) -> Iterator[Seen]:
    """Yields a function to call with each chunk that is read; raises ConfigError if they are not the expected bytes."""
    digest = hashlib.sha256()
    changed = ConfigError(f"{corpus.said} must not change while it is read")
    try:
        yield digest.update
    except ConfigError as error:
        if _raw_sha256(corpus) != raw_sha256:  # which explains the error
            raise changed from error
        raise
    if digest.hexdigest() != raw_sha256:
        raise changed


def _found_or_made(path: Path, find: Callable[[], T | None], make: Callable[[], T]) -> T:
    """What is in the cache; if it is not, one process makes it, and others that want it wait."""
    if (found := find()) is not None:
        return found
    directory = path.parent
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with FileLock(directory / ".lock"):
            if (found := find()) is not None:  # another process may have been quicker
                return found
            remove_parts(directory)
            if path.exists():
                log.warning("cache: %s is damaged, and is made again", path)
            return make()
    except OSError as error:
        raise ConfigError(
            f"the cache ({directory}) must be a directory that can be written, but: {error.strerror}; "
            "XDG_CACHE_HOME names another place"
        ) from error


def _read_facts(path: Path) -> TextFacts | None:
    try:
        content = json.loads(path.read_bytes())
        facts = TextFacts(**content["facts"])
        return facts if content["sha256"] == _facts_sha256(facts) else None
    except (OSError, ValueError, TypeError, KeyError):  # not there, or damaged
        return None


def _facts_sha256(facts: TextFacts) -> str:
    return _sha256(json.dumps(asdict(facts)))


def _write_facts(path: Path, corpus: Corpus, raw_sha256: str) -> TextFacts:
    digest, characters, occurs = hashlib.sha256(), 0, np.zeros(sys.maxunicode + 1, bool)
    with _read_unchanged(corpus, raw_sha256) as seen:
        for chunk in corpus.chunks(seen):
            digest.update(chunk.encode())
            characters += len(chunk)
            points = code_points(chunk)
            if not occurs.take(points).all():  # to look is quicker than to write
                occurs[points] = True
    facts = TextFacts(raw_sha256, digest.hexdigest(), characters, "".join(map(chr, np.flatnonzero(occurs))))
    write_atomically(path, json.dumps({"facts": asdict(facts), "sha256": _facts_sha256(facts)}).encode())
    return facts


def _write_ids(path: Path, corpus: Corpus, facts: TextFacts, vocab: CharVocab) -> Path:
    checksum = 0
    with open_atomically(path) as file, _read_unchanged(corpus, facts.raw_sha256) as seen:
        for source, position, chunk in corpus.pieces(seen):
            ids = vocab.encode_chunk(chunk, position, "data.text", source).data
            checksum = zlib.crc32(ids, checksum)
            file.write(ids)
    write_atomically(_checksum_file(path), str(checksum).encode())
    return path


def _is_intact(path: Path, size: int) -> bool:
    """Whether a file is there, has a size, and the checksum that was written beside it."""
    try:
        if path.stat().st_size != size:
            return False
        checksum = 0
        with path.open("rb") as file:
            while raw := file.read(CHUNK_BYTES):
                checksum = zlib.crc32(raw, checksum)
        return _checksum_file(path).read_bytes() == str(checksum).encode()
    except OSError:
        return False


def _checksum_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.crc32")
