"""nanoGPT's data folder: its meta.pkl is read without running code, and its ids are decoded to the original text."""

import hashlib
import pickle
import shutil
import subprocess
import sys
from itertools import repeat
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.command_line import TINY, VERSE, refused
from support.nanogpt_folder import meta, prepare

from chargpt_lightning import CharDataModule, CharVocab
from chargpt_lightning.data import nanogpt, text_files
from chargpt_lightning.data.cache import text_facts
from chargpt_lightning.data.corpus import load_corpus
from chargpt_lightning.data.nanogpt import MAX_META_BYTES, read_alphabet, write_alphabet
from chargpt_lightning.utils.errors import ConfigError

META = Path("meta.pkl")
PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
CHARACTERS = st.characters(exclude_categories=["Cs"])
IN_ONE_PLACE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def refusal(content: bytes) -> str:
    META.write_bytes(content)
    with pytest.raises(ConfigError) as error:
        read_alphabet(META)
    message = str(error.value)
    assert message.startswith("alphabet (meta.pkl) must ")
    assert len(message.splitlines()) == 1
    return message.removeprefix("alphabet (meta.pkl) must ")


class Payload:
    """Calls a function wherever it is unpickled."""

    def __init__(self, function, argument) -> None:
        self.call = (function, (argument,))

    def __reduce__(self):
        return self.call


PAYLOADS = {
    "a process": Payload(subprocess.call, [sys.executable, "-c", "open('done', 'w')"]),
    "eval": Payload(eval, "open('done', 'w').close()"),
    "exec": Payload(exec, "open('done', 'w').close()"),
}


@IN_ONE_PLACE
@given(alphabet=st.text(CHARACTERS, min_size=1).map(lambda text: "".join(dict.fromkeys(text))), data=st.data())
def test_an_alphabet_is_read_as_it_was_written(alphabet, data):
    write_alphabet(META, alphabet)
    assert read_alphabet(META) == alphabet
    assert pickle.loads(META.read_bytes()) == meta(alphabet)
    META.write_bytes(pickle.dumps(meta(alphabet), data.draw(st.sampled_from(PROTOCOLS))))
    assert read_alphabet(META) == alphabet


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_largest_alphabet_that_has_ids_is_read(protocol):
    alphabet = "".join(map(chr, range(0x10000, 0x20000)))
    META.write_bytes(pickle.dumps(meta(alphabet), protocol))
    assert read_alphabet(META) == alphabet


def test_itos_alone_is_enough():
    META.write_bytes(pickle.dumps({"itos": {1: "a", 0: "b"}, "names": ["x", 1.5, None, True, 2**40]}))
    assert read_alphabet(META) == "ba"


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
def test_code_in_a_pickle_is_not_run(monkeypatch, protocol, payload):
    for bad in (payload, meta("ab") | {"more": payload}, {"itos": {0: payload}}):
        content = pickle.dumps(bad, protocol)
        assert refusal(content) == "contain only dicts, lists, strings and numbers, and no code"
        with monkeypatch.context() as patch:
            patch.setattr(nanogpt, "_is_plain", lambda *instruction: True)
            assert refusal(content) == "be an intact pickle"
        assert not Path("done").exists()
        pickle.loads(content)
        Path("done").unlink()  # it would have been run


@pytest.mark.parametrize(
    "content",
    [
        *(pickle.dumps(meta("ab") | {"more": value}) for value in (len, Path, b"bytes", (1, 2), {3}, 1j)),
        b"Pname\n.",  # an object that is kept elsewhere
        b"\x80\x02\x82\x01.",  # one that is registered
    ],
)
def test_values_that_are_not_plain_are_refused(content):
    assert refusal(content) == "contain only dicts, lists, strings and numbers, and no code"


@pytest.mark.parametrize(
    "bomb",
    [
        b"\x80\x02}r\xff\xff\xff\xff.",  # room to remember four billion values
        b"}p4294967295\n.",
        b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x3f.",  # a bytearray of four exabytes
        b"\x80\x02})" + b"2\x86" * 100 + b"Ns.",  # a key that takes 2**100 steps to hash
        b"\x80\x02})" + b"\x85" * 10**6 + b"Ns.",  # one that needs more than the stack
        b"(" * 10**6 + b".",
        b"\x80\x02" + b"]" * 10**6 + b"a" * (10**6 - 1) + b".",
        b"I" + b"9" * 10**6 + b"\n.",
    ],
)
def test_pickles_that_would_exhaust_memory_time_or_the_stack_are_refused(bomb):
    refusal(bomb)


@IN_ONE_PLACE
@given(st.binary())
def test_random_bytes_are_refused_in_one_line(content):
    refusal(content)


@IN_ONE_PLACE
@given(data=st.data(), protocol=st.sampled_from(PROTOCOLS), alphabet=st.sampled_from(["ab", "\n !aé不\U0001f642"]))
def test_a_changed_pickle_is_refused_or_has_an_alphabet(data, protocol, alphabet):
    content = bytearray(pickle.dumps(meta(alphabet), protocol))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content)))
        content[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    META.write_bytes(content)
    try:
        found = read_alphabet(META)
    except ConfigError:
        return
    assert len(found.encode().decode()) == len(set(found)) > 0


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        (5, "have an itos that maps ids from 0 on to characters"),
        ({"stoi": {"a": 0}}, "have an itos that maps ids from 0 on to characters"),
        ({"itos": "ab"}, "have an itos that maps ids from 0 on to characters"),
        ({"itos": {}}, "have an itos that maps ids from 0 on to characters"),
        ({"itos": {1: "a"}}, "have an itos that maps ids from 0 on to characters"),
        ({"itos": {0: "a", 2: "b"}}, "map ids from 0 on to single characters, but id 1 has none"),
        ({"itos": {0: "a", "1": "b"}}, "map ids from 0 on to single characters, but id 1 has none"),
        ({"itos": {0: "a", 1: "the"}}, "map ids from 0 on to single characters, but id 1 has none"),
        ({"itos": {0: "a", 1: ""}}, "map ids from 0 on to single characters, but id 1 has none"),
        ({"itos": {0: "a", 1: 98}}, "map ids from 0 on to single characters, but id 1 has none"),
        ({"itos": {0: "a", 1: "\udc80"}}, "map ids from 0 on to single characters, but id 1 has none"),
        ({"itos": {0: "a", 1: "b", 2: "a"}}, "map each id to a different character, but ids 0 and 2 share one"),
        (meta("ab") | {"stoi": {"a": 1, "b": 0}}, "have a stoi that is the inverse of itos"),
        (meta("ab") | {"stoi": {"a": 0}}, "have a stoi that is the inverse of itos"),
        (meta("ab") | {"stoi": ["a", "b"]}, "have a stoi that is the inverse of itos"),
        (meta("ab") | {"vocab_size": 3}, "have vocab_size 2, because itos has that many characters"),
    ],
)
def test_an_invalid_alphabet_is_refused(value, rule):
    assert refusal(pickle.dumps(value)) == rule


def test_a_file_too_large_for_a_vocabulary_is_not_read_to_its_end(monkeypatch):
    monkeypatch.setattr(nanogpt, "read_chunks", lambda path, name: repeat(bytes(2**18)))  # endless
    with pytest.raises(ConfigError, match=rf"must have at most {MAX_META_BYTES:,} bytes, because no vocabulary needs"):
        read_alphabet(META)


def test_a_missing_file_is_refused():
    with pytest.raises(ConfigError, match=r"alphabet \(meta.pkl\) must be a readable file, but: No such file"):
        read_alphabet(META)


def ids(data: CharDataModule) -> list[int]:
    return np.fromfile(data.ids, data.vocab.dtype).tolist()


@IN_ONE_PLACE
@given(
    text=st.text(st.sampled_from("ab\r\n\ufeff\x00é不\U0001f642") | CHARACTERS, min_size=2),
    data=st.data(),
    size=st.sampled_from([2, 4, 6]),
)
def test_a_folder_is_decoded_to_its_original_text(text, data, size):
    alphabet = "".join(data.draw(st.permutations(sorted(set(text) | {"x", "y"}))))
    border = data.draw(st.integers(1, len(text) - 1))
    shutil.rmtree("nano", ignore_errors=True)
    prepare("nano", text, alphabet, border)
    found = CharDataModule("nano")
    with patch.object(text_files, "CHUNK_BYTES", size):
        assert ids(found) == [alphabet.index(character) for character in text]
    assert found.alphabet == alphabet
    assert (found.facts.characters, found.corpus.train_characters) == (len(text), border)
    assert found.facts.alphabet == CharVocab.of(text).alphabet
    assert found.facts.sha256 == hashlib.sha256(text.encode()).hexdigest()


def test_two_folders_share_their_ids_only_if_text_and_alphabet_are_the_same():
    prepare("nano", VERSE * 20)
    prepare("other border", VERSE * 20, border=200)
    prepare("other order", VERSE * 20, alphabet="".join(sorted(set(VERSE), reverse=True)))
    prepare("other text", VERSE * 20).joinpath("meta.pkl").write_bytes((Path("other order") / "meta.pkl").read_bytes())
    nano, border, order, text = map(CharDataModule, ("nano", "other border", "other order", "other text"))
    assert (nano.ids, nano.facts) == (border.ids, border.facts)
    assert (nano.splits[0], border.splits[0]) == (range(1206), range(200))
    assert order.facts.sha256 == nano.facts.sha256
    assert ids(order) == [len(nano.alphabet) - 1 - id for id in ids(nano)]
    assert ids(text) == ids(nano)
    assert text.facts.sha256 != nano.facts.sha256


def test_a_file_and_a_folder_never_share_a_cache_entry():
    """The bytes of one file are those of the folder's text, of another those of its ids."""
    text = "a\r\nb\r\n" * 20
    prepare("nano", text, alphabet="ab\r\n" + "".join(map(chr, range(0x4E00, 0x4F00))))
    Path("same.txt").write_bytes(text.encode())
    Path("ids.txt").write_bytes(Path("nano/train.bin").read_bytes() + Path("nano/val.bin").read_bytes())
    for _ in range(2):  # the second time out of the cache
        sizes = [text_facts(load_corpus(source)).characters for source in ("same.txt", "nano", "ids.txt")]
        assert sizes == [80, 120, 240]


def test_a_given_alphabet_replaces_the_folders():
    prepare("nano", "abab" * 50)
    assert ids(CharDataModule("nano", alphabet="bca"))[:4] == [2, 0, 2, 0]
    with pytest.raises(ConfigError, match=r"data.text \('b' at position 1 of nano\) must use only the 1 characters"):
        _ = CharDataModule("nano", alphabet="a").ids


IDS = "data.text (nano/{}.bin) must contain one or more ids of two bytes each, but has {} bytes"
SHORT = "data.text (nano) must be longer: its {} split has 8 characters, and block_size (8) needs at least 9"
FOLDERS = "data.text (nano) must be a file, or a character-level data folder from nanoGPT, but has no "


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train.bin", None, FOLDERS + "train.bin"),
        ("val.bin", None, FOLDERS + "val.bin"),
        ("meta.pkl", None, FOLDERS + "meta.pkl"),
        ("meta.pkl", b"", "alphabet (nano/meta.pkl) must be an intact pickle"),
        ("train.bin", b"", IDS.format("train", 0)),
        (
            "val.bin",
            b"\0\0\0",
            "data.text (nano/val.bin) must contain one or more ids of two bytes each, but has 3 bytes",
        ),
        (
            "val.bin",
            b"\x14\0" * 200 + b"\x15\0\xff\xff",
            "data.text (nano/val.bin) must contain only ids below 21, the number of characters in meta.pkl, "
            "but has 21 at position 200",
        ),
        (
            "train.bin",
            b"\1\0" * 8,
            "data.text (nano) must be longer: its train split has 8 characters, and block_size (8)",
        ),
        ("val.bin", b"\1\0" * 8, SHORT.format("val")),
    ],
)
def test_a_damaged_folder_is_refused(run, monkeypatch, name, content, message):
    monkeypatch.setattr(text_files, "CHUNK_BYTES", 20)
    path = prepare("nano", VERSE * 20) / name
    path.unlink() if content is None else path.write_bytes(content)
    assert refused(run, *TINY, "--data.text", "nano").startswith(message)


def test_an_empty_folder_is_refused_with_all_missing_files(run):
    Path("nano").mkdir()
    assert refused(run, *TINY, "--data.text", "nano") == FOLDERS + "train.bin and no val.bin and no meta.pkl"


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda path: path.write_bytes(path.read_bytes() + b"\0\0"), "not change while it is read"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "not change while it is read"),
        (Path.unlink, "be a readable file, but: No such file or directory"),
    ],
)
def test_a_folder_that_changes_while_it_is_read_is_refused(change, rule):
    found = load_corpus(str(prepare("nano", VERSE * 20)))
    change(Path("nano/val.bin"))
    for read in (found.raw_chunks, found.chunks):
        with pytest.raises(ConfigError) as error:
            list(read())
        assert str(error.value) == f"data.text ({Path('nano/val.bin')}) must {rule}"


def test_numbers_with_equal_hashes_are_refused_at_once():
    """A dict of these takes time that grows with the square of their number."""
    prime = 2**61 - 1
    assert refusal(pickle.dumps({"itos": {0: "a"}, "more": {prime * n: None for n in range(20)}})) == (
        "contain only dicts, lists, strings and numbers, and no code"
    )
