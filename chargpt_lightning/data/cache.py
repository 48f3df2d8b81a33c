"""Caches the facts and the ids of each text as files, named by checksums of the text's content."""

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
from chargpt_lightning.data.text_files import CHUNK_BYTES, OnRead
from chargpt_lightning.utils.atomic import open_atomically, remove_parts, write_atomically
from chargpt_lightning.utils.errors import ConfigError
from chargpt_lightning.vocab import CharVocab, code_points

log = logging.getLogger(__name__)

T = TypeVar("T")
FORMAT_VERSION = "2"  # of the cache files; files of other versions are ignored


@dataclass(frozen=True)
class TextFacts:
    """Facts of a text that would otherwise require decoding it.

    Args:
        raw_sha256: SHA-256 of the bytes that determine the characters; names the text's cache files.
        sha256: SHA-256 of the characters in UTF-8, independent of line ends and a byte order mark.
        characters: Number of characters.
        alphabet: Distinct characters, sorted by code point.
    """

    raw_sha256: str
    sha256: str
    characters: int
    alphabet: str


def text_facts(corpus: Corpus) -> TextFacts:
    """Returns the facts of a text; if they are cached, its bytes are hashed but not decoded.

    Raises:
        ConfigError: If the text cannot be read, changes while it is read, is not UTF-8 or is empty, or if the cache
            is not writable.
    """
    raw_sha256 = _raw_sha256(corpus)
    path = _texts() / f"{raw_sha256}.{FORMAT_VERSION}.json"
    return _find_or_make(path, lambda: _read_facts(path), lambda: _write_facts(path, corpus, raw_sha256))


def text_ids(corpus: Corpus, facts: TextFacts, vocab: CharVocab) -> Path:
    """Returns the file that contains the ids (N,) of a text as raw `vocab.dtype`.

    Raises:
        ConfigError: If a character is not in the vocabulary, the text has changed since its facts were computed, or
            the cache is not writable.
    """
    alphabet = _sha256(vocab.alphabet)
    path = _texts() / f"{facts.raw_sha256}.{alphabet}.{FORMAT_VERSION}.{vocab.dtype}"
    return _find_or_make(
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
def _read_unchanged(corpus: Corpus, raw_sha256: str) -> Iterator[OnRead]:
    """Yields a callback for each chunk that is read; raises ConfigError if the chunks are not the expected bytes."""
    digest = hashlib.sha256()
    changed = ConfigError(f"{corpus.label} must not change while it is read")
    try:
        yield digest.update
    except ConfigError as error:
        if _raw_sha256(corpus) != raw_sha256:  # the change explains the error
            raise changed from error
        raise
    if digest.hexdigest() != raw_sha256:
        raise changed


def _find_or_make(path: Path, find: Callable[[], T | None], make: Callable[[], T]) -> T:
    """Returns the cached value; if missing or damaged, makes it while other processes that need it wait."""
    if (found := find()) is not None:
        return found
    directory = path.parent
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with FileLock(directory / ".lock"):
            if (found := find()) is not None:  # another process may have made it meanwhile
                return found
            remove_parts(directory)
            if path.exists():
                log.warning("cache: %s is damaged and will be rebuilt", path)
            return make()
    except OSError as error:
        raise ConfigError(
            f"the cache ({directory}) must be a writable directory, but: {error.strerror}; "
            "set XDG_CACHE_HOME to use another one"
        ) from error


def _read_facts(path: Path) -> TextFacts | None:
    try:
        content = json.loads(path.read_bytes())
        facts = TextFacts(**content["facts"])
        return facts if content["sha256"] == _facts_sha256(facts) else None
    except (OSError, ValueError, TypeError, KeyError, RecursionError):  # missing or damaged
        return None


def _facts_sha256(facts: TextFacts) -> str:
    return _sha256(json.dumps(asdict(facts)))


def _write_facts(path: Path, corpus: Corpus, raw_sha256: str) -> TextFacts:
    digest, characters, present = hashlib.sha256(), 0, np.zeros(sys.maxunicode + 1, bool)
    with _read_unchanged(corpus, raw_sha256) as on_read:
        for chunk in corpus.chunks(on_read):
            digest.update(chunk.encode())
            characters += len(chunk)
            points = code_points(chunk)
            if not present.take(points).all():  # reading is faster than writing
                present[points] = True
    facts = TextFacts(raw_sha256, digest.hexdigest(), characters, "".join(map(chr, np.flatnonzero(present))))
    write_atomically(path, json.dumps({"facts": asdict(facts), "sha256": _facts_sha256(facts)}).encode())
    return facts


def _write_ids(path: Path, corpus: Corpus, facts: TextFacts, vocab: CharVocab) -> Path:
    checksum = 0
    with open_atomically(path) as file, _read_unchanged(corpus, facts.raw_sha256) as on_read:
        for source, position, chunk in corpus.pieces(on_read):
            ids = vocab.encode_chunk(chunk, position, "data.text", source).data
            checksum = zlib.crc32(ids, checksum)
            file.write(ids)
    write_atomically(_checksum_file(path), str(checksum).encode())
    return path


def _is_intact(path: Path, size: int) -> bool:
    """Whether a file exists with this size and with the checksum in its checksum file."""
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
