"""Texts as ids in the cache: written once, atomically, by one process, and checked when they are read."""

import gc
import hashlib
import io
import json
import os
import re
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from support.command_line import TINY, VERSE, refused
from support.nanogpt_folder import prepare
from support.platforms import full_disk, posix

from chargpt_lightning import CharVocab
from chargpt_lightning.data import corpus, text_files
from chargpt_lightning.data.cache import TextFacts, text_facts, text_ids
from chargpt_lightning.data.corpus import cache_directory, load_corpus
from chargpt_lightning.utils.errors import ConfigError

HARD = st.sampled_from("ab\r\n\ufeff\x00é不\U0001f642") | st.characters(exclude_categories=["Cs"])


def encoded(source: str | list[str]) -> tuple[TextFacts, np.ndarray]:
    """A text's facts and its ids."""
    text = load_corpus(source)
    facts = text_facts(text)
    vocab = CharVocab(facts.alphabet)
    return facts, np.fromfile(text_ids(text, facts, vocab), vocab.dtype)


def in_cache() -> dict[str, Path]:
    """The files of texts in the cache, by what they are."""
    return {path.suffix: path for path in (cache_directory() / "texts").iterdir() if path.name != ".lock"}


@pytest.fixture
def readings(monkeypatch):
    """Grows by one whenever a text is decoded."""
    readings = []
    decode = corpus.decode_utf8
    monkeypatch.setattr(corpus, "decode_utf8", lambda chunks, name: readings.append(name) or decode(chunks, name))
    return readings


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(text=st.text(HARD), mark=st.booleans(), size=st.integers(1, 9))
def test_the_size_of_chunks_changes_nothing(text, mark, size):
    raw = b"\xef\xbb\xbf" * mark + text.encode()
    text_of_file = io.TextIOWrapper(io.BytesIO(raw), encoding="utf-8-sig").read()
    assume(text_of_file)
    Path("any.txt").write_bytes(raw)
    shutil.rmtree(cache_directory(), ignore_errors=True)
    with patch.object(text_files, "CHUNK_BYTES", size):
        facts, ids = encoded("any.txt")
    assert facts.raw_sha256 == hashlib.sha256(raw).hexdigest()
    assert facts.sha256 == hashlib.sha256(text_of_file.encode()).hexdigest()
    assert (facts.characters, facts.alphabet) == (len(text_of_file), CharVocab.of(text_of_file).alphabet)
    assert ids.tolist() == CharVocab.of(text_of_file).encode(text_of_file).tolist()


@pytest.mark.parametrize(
    ("characters", "dtype"), [(256, "uint8"), (257, "int16"), (32_768, "int16"), (32_769, "int32")]
)
def test_ids_have_the_smallest_type_for_the_alphabet(characters, dtype):
    Path("many.txt").write_text("".join(chr(0x10000 + n) for n in range(characters)), encoding="utf-8")
    _, ids = encoded("many.txt")
    assert ids.dtype == dtype
    assert ids.tolist() == list(range(characters))


def test_a_text_is_decoded_twice_and_then_never_again(readings):
    first, ids = encoded("verse.txt")
    assert len(readings) == 2
    Path("verse.txt").rename("moved.txt")
    again, ids_again = encoded("moved.txt")
    assert len(readings) == 2
    assert (first, ids.tolist()) == (again, ids_again.tolist())


def test_the_content_of_a_file_decides_not_its_time():
    encoded("verse.txt")
    was = Path("verse.txt").stat()
    Path("verse.txt").write_text((VERSE * 20).replace("three", "seven"), encoding="utf-8")
    os.utime("verse.txt", ns=(was.st_atime_ns, was.st_mtime_ns))
    facts, _ = encoded("verse.txt")
    assert "v" in facts.alphabet


def test_each_alphabet_has_its_own_ids():
    text = load_corpus("verse.txt")
    facts = text_facts(text)
    alphabets = (facts.alphabet, facts.alphabet[::-1])
    own, other = (np.fromfile(text_ids(text, facts, CharVocab(alphabet)), np.uint8) for alphabet in alphabets)
    assert (own + other == len(facts.alphabet) - 1).all()


@pytest.mark.parametrize(
    ("suffix", "damage"),
    [
        (".json", b""),
        (".json", b'{"sha256": "8'),
        (".json", b"[]"),
        (".json", b"{}"),
        (".json", b"[" * 100_000),
        (".uint8", b"\0"),
        (".crc32", b"0"),
    ],
)
def test_a_damaged_cache_is_written_again(suffix, damage):
    right, ids = encoded("verse.txt")
    in_cache()[suffix].write_bytes(damage)
    again, ids_again = encoded("verse.txt")
    assert (right, ids.tolist()) == (again, ids_again.tolist())


@pytest.mark.parametrize("suffix", [".json", ".uint8"])
def test_damage_that_keeps_the_length_is_noticed_and_reported(run, suffix):
    assert run(*TINY).code == 0
    content = in_cache()[suffix].read_bytes()
    places = [content.index(b'"characters": 1') + 14] if suffix == ".json" else [0, len(content) // 2, len(content) - 1]
    for place in places:
        gc.collect()  # Windows overwrites nothing that is mapped
        in_cache()[suffix].write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        messages = run("validate").err
        assert messages.count("cache: ") == messages.count(f"{suffix} is damaged and will be rebuilt") == 1
        assert in_cache()[suffix].read_bytes() == content
    assert "cache: " not in run("validate").err


def test_files_of_the_old_format_are_ignored():
    right, ids = encoded("verse.txt")
    directory, alphabet = cache_directory() / "texts", hashlib.sha256(right.alphabet.encode()).hexdigest()
    shutil.rmtree(directory)
    directory.mkdir()
    wrong = {"raw_sha256": right.raw_sha256, "sha256": right.sha256, "characters": len(ids), "alphabet": "wrong"}
    (directory / f"{right.raw_sha256}.json").write_text(json.dumps(wrong), encoding="utf-8")
    (directory / f"{right.raw_sha256}.{alphabet}.uint8").write_bytes(bytes(len(ids)))
    again, ids_again = encoded("verse.txt")
    assert (right, ids.tolist()) == (again, ids_again.tolist())


def test_a_file_that_a_crash_left_half_written_is_ignored():
    _, ids = encoded("verse.txt")
    half = in_cache()[".uint8"]
    half.rename(f"{half}.part")
    assert encoded("verse.txt")[1].tolist() == ids.tolist()
    assert set(in_cache()) == {".crc32", ".json", ".uint8"}


def test_of_several_that_start_at_once_one_encodes(readings):
    found = []
    threads = [threading.Thread(target=lambda: found.append(encoded("verse.txt"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({(facts, tuple(ids)) for facts, ids in found}) == 1
    assert (len(found), len(readings)) == (8, 2)


@pytest.mark.parametrize("cache", [pytest.param("/proc/nowhere", marks=posix), "verse.txt"])
def test_a_cache_that_cannot_be_written_is_refused(run, monkeypatch, cache):
    place = Path(cache).absolute()
    monkeypatch.setenv("XDG_CACHE_HOME", str(place))
    refusal = re.escape(f"the cache ({place.as_posix()}/chargpt_lightning/texts) must be a writable directory")
    assert re.fullmatch(rf"{refusal}, but: \w.+; set XDG_CACHE_HOME to use another one", refused(run, *TINY))


@posix
def test_a_full_disk_is_refused_and_leaves_no_partial_ids(run):
    Path("verse.txt").write_text(VERSE * 2000, encoding="utf-8")
    with full_disk():
        message = refused(run, *TINY)
    assert message.startswith("the cache (")
    assert message.endswith("must be a writable directory, but: File too large; set XDG_CACHE_HOME to use another one")
    assert set(in_cache()) == {".json"}


def test_an_unknown_character_is_named_with_its_position_and_leaves_no_ids(monkeypatch):
    monkeypatch.setattr(text_files, "CHUNK_BYTES", 10)
    Path("verse.txt").write_text(VERSE + "ü" + VERSE, encoding="utf-8")
    text = load_corpus("verse.txt")
    facts = text_facts(text)
    message = (
        rf"data.text \('ü' at position {len(VERSE)} of verse.txt\) must use only the 21 characters of the vocabulary"
    )
    with pytest.raises(ConfigError, match=message):
        text_ids(text, facts, CharVocab.of(VERSE))
    assert set(in_cache()) == {".json"}


def lay_out(form: str, text: str) -> str | list[str]:
    """Writes a text; returns the value of data.text for it."""
    if form == "folder":
        shutil.rmtree("nano", ignore_errors=True)
        return str(prepare("nano", text, alphabet="".join(sorted({*VERSE, "Z"}))))
    half = len(text) // 2 if form == "files" else 0
    for name, part in (("one.txt", text[:half]), ("two.txt", text[half:])):
        Path(name).write_text(part, encoding="utf-8", newline="\n")
    return ["one.txt", "two.txt"] if form == "files" else "two.txt"


def changing(text: corpus.Corpus, reading: int, edit: Callable[[], object]) -> corpus.Corpus:
    """The text, edited just before its characters are read for the `reading`-th time, counted from 0."""
    readings = []

    def chunks(*seen):
        if len(readings) == reading:
            edit()
        readings.append(reading)
        return first.chunks(*seen)

    first, *others = text.parts
    return replace(text, parts=[replace(first, chunks=chunks), *others])


@pytest.mark.parametrize("reading", [0, 1], ids=["facts", "ids"])
@pytest.mark.parametrize("form", ["file", "files", "folder"])
@pytest.mark.parametrize("new", ["eerht", "ZZZZZ", "thr"], ids=["same characters", "another", "shorter"])
def test_a_text_that_changes_while_it_is_read_is_refused_and_not_cached(form, reading, new):
    before, after = VERSE * 20, VERSE * 19 + VERSE.replace("three", new)
    source = lay_out(form, before)
    text = changing(load_corpus(source), reading, lambda: lay_out(form, after))
    with pytest.raises(ConfigError, match=r"data.text \(.+\) must not change while it is read"):
        text_ids(text, text_facts(text), CharVocab.of(before))
    assert set(in_cache()) <= {".json"}
    for content in (after, before):
        facts, ids = encoded(lay_out(form, content))
        assert facts.sha256 == hashlib.sha256(content.encode()).hexdigest()
        assert CharVocab(facts.alphabet).decode(torch.from_numpy(ids)) == content


def test_a_change_in_the_middle_of_a_reading_is_refused(monkeypatch):
    """In the first pass of all, half of the bytes are read before the change and half after it."""
    monkeypatch.setattr(text_files, "CHUNK_BYTES", 100)
    before, after = VERSE * 20, VERSE.replace("three", "eerht") * 20
    lay_out("file", before)

    def raw_chunks():
        for number, raw in enumerate(text_files.read_chunks(Path("two.txt"), "two.txt")):
            yield raw
            if number == 5:
                lay_out("file", after)

    text = load_corpus("two.txt")
    text = replace(text, parts=[replace(text.parts[0], raw_chunks=raw_chunks)])
    with pytest.raises(ConfigError, match="must not change while it is read"):
        text_facts(text)


def test_the_plays_are_read_from_memory_in_every_pass(monkeypatch):
    monkeypatch.setattr(corpus, "render_plays", lambda: VERSE)
    text = load_corpus("plays")
    monkeypatch.setattr(corpus, "render_plays", lambda: VERSE[::-1])
    facts = text_facts(text)
    ids = np.fromfile(text_ids(text, facts, CharVocab.of(VERSE)), np.uint8)
    assert facts.raw_sha256 == facts.sha256 == hashlib.sha256(VERSE.encode()).hexdigest()
    assert ids.tolist() == CharVocab.of(VERSE).encode(VERSE).tolist()


def test_sampling_needs_no_cache(run, tiny_run):
    assert not cache_directory().exists()
    assert run("predict").code == 0
    assert not cache_directory().exists()
