"""nanoGPT's data folder: its meta.pkl is read without danger, and its ids are the text that they were made of."""

import pickle
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chargpt_lightning import nanogpt_data
from chargpt_lightning.errors import ConfigError
from chargpt_lightning.nanogpt_data import MOST_META_BYTES, read_alphabet, write_alphabet

META = Path("meta.pkl")
PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
CHARACTERS = st.characters(exclude_categories=["Cs"])
IN_ONE_PLACE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def meta(alphabet: str) -> dict:
    """What nanoGPT's prepare.py pickles."""
    stoi = {character: id for id, character in enumerate(alphabet)}
    return {"vocab_size": len(alphabet), "itos": dict(enumerate(alphabet)), "stoi": stoi}


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
    "a process": Payload(subprocess.call, ["touch", "done"]),
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


def test_what_nanogpt_does_without_need_not_be_there():
    META.write_bytes(pickle.dumps({"itos": {1: "a", 0: "b"}, "names": ["x", 1.5, None, True, 2**40]}))
    assert read_alphabet(META) == "ba"


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
def test_no_code_is_run(monkeypatch, protocol, payload):
    for bad in (payload, meta("ab") | {"more": payload}, {"itos": {0: payload}}):
        content = pickle.dumps(bad, protocol)
        assert refusal(content) == "hold no code, and nothing but dicts, lists, strings and numbers"
        with monkeypatch.context() as patch:
            patch.setattr(nanogpt_data, "_is_plain", lambda *instruction: True)
            assert refusal(content) == "be a pickle that is whole"
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
def test_what_is_no_plain_value_is_refused(content):
    assert refusal(content) == "hold no code, and nothing but dicts, lists, strings and numbers"


@pytest.mark.parametrize(
    "bomb",
    [
        b"\x80\x02}r\xff\xff\xff\xff.",  # room to remember four billion values
        b"}p4294967295\n.",
        b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x3f.",  # a bytearray of four exabytes
        b"\x80\x02})" + b"2\x86" * 100 + b"Ns.",  # a key that takes 2**100 steps to hash
        b"\x80\x02})" + b"\x85" * 10**6 + b"Ns.",  # one that takes all of the stack
        b"(" * 10**6 + b".",
        b"\x80\x02" + b"]" * 10**6 + b"a" * (10**6 - 1) + b".",
        b"I" + b"9" * 10**6 + b"\n.",
    ],
)
def test_neither_memory_nor_time_nor_the_stack_is_used_up(bomb):
    refusal(bomb)


@IN_ONE_PLACE
@given(st.binary())
def test_whatever_the_bytes_are_there_is_one_line(content):
    refusal(content)


@IN_ONE_PLACE
@given(data=st.data(), protocol=st.sampled_from(PROTOCOLS), alphabet=st.sampled_from(["ab", "\n !aé不\U0001f642"]))
def test_whatever_is_changed_in_a_pickle_there_is_one_line_or_an_alphabet(data, protocol, alphabet):
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
        ({"itos": {0: "a", 2: "b"}}, "map ids from 0 on to single characters, but 1 has none"),
        ({"itos": {0: "a", "1": "b"}}, "map ids from 0 on to single characters, but 1 has none"),
        ({"itos": {0: "a", 1: "the"}}, "map ids from 0 on to single characters, but 1 has none"),
        ({"itos": {0: "a", 1: ""}}, "map ids from 0 on to single characters, but 1 has none"),
        ({"itos": {0: "a", 1: 98}}, "map ids from 0 on to single characters, but 1 has none"),
        ({"itos": {0: "a", 1: "\udc80"}}, "map ids from 0 on to single characters, but 1 has none"),
        ({"itos": {0: "a", 1: "b", 2: "a"}}, "map each id to another character, but 0 and 2 share one"),
        (meta("ab") | {"stoi": {"a": 1, "b": 0}}, "have a stoi that maps back what itos maps"),
        (meta("ab") | {"stoi": {"a": 0}}, "have a stoi that maps back what itos maps"),
        (meta("ab") | {"stoi": ["a", "b"]}, "have a stoi that maps back what itos maps"),
        (meta("ab") | {"vocab_size": 3}, "have the vocab_size 2, because itos has as many characters"),
    ],
)
def test_an_alphabet_that_is_none_is_refused(value, rule):
    assert refusal(pickle.dumps(value)) == rule


def test_a_file_that_cannot_be_a_vocabulary_is_not_read_to_its_end():
    with META.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(ConfigError, match=rf"must have at most {MOST_META_BYTES:,} bytes, because no vocabulary has"):
        read_alphabet(META)


def test_an_alphabet_that_is_not_there_is_refused():
    with pytest.raises(ConfigError, match=r"alphabet \(meta.pkl\) must be a file that can be read, but: No such file"):
        read_alphabet(META)
