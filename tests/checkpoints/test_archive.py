"""Checkpoints whose content a few bytes could expand to hours or gigabytes are refused at once."""

import random
import threading
import time
from collections import Counter, OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chargpt_lightning.checkpoints.archive import _is_harmless_pickle, archive_of
from chargpt_lightning.checkpoints.io import AtomicCheckpointIO, load_safely
from chargpt_lightning.utils.errors import ConfigError

FILE = Path("file.ckpt")


def doubled(kind: type, times: int) -> object:
    """A container that holds another one twice, and so on: its file is small, but not what it stands for."""
    found = kind()
    for _ in range(times):
        found = kind((found, found))
    return found


def within(times: int) -> list:
    found: list = []
    for _ in range(times):
        found = [found]
    return found


class Reduced:
    """Calls a function with an argument when it is unpickled."""

    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


NUMBERS = list(range(1000))
PAIRS = [(number, 0) for number in NUMBERS]
HARMFUL = {
    "lists in lists, doubled 40 times": [doubled(list, 40)],
    "lists 300 deep": within(300),
    "a list copied into many sets": [Reduced(set, NUMBERS) for _ in range(3000)],
    "a list copied into many dicts": [Reduced(OrderedDict, PAIRS) for _ in range(3000)],
    "a number of 200 bits": {2**200: 1},
    "a tensor without data": torch.empty(10**12, device="meta"),
    "a sparse tensor": torch.eye(2).to_sparse(),
}


@pytest.mark.parametrize("harmful", HARMFUL.values(), ids=HARMFUL)
def test_harmful_content_is_refused_at_once(harmful):
    torch.save({"callbacks": harmful}, FILE)
    start_s = time.perf_counter()
    with pytest.raises(ConfigError, match=r"ckpt_path \(file.ckpt\) must be an intact checkpoint file"):
        load_safely(FILE)
    assert time.perf_counter() - start_s < 5


@pytest.mark.parametrize(("times", "harmless"), [(0, True), (1, True), (9, True), (60, False)])
def test_a_key_that_takes_forever_to_hash_is_refused(times, harmless):
    """The pair (1, 2), or a pair of the same two pairs, and so on, is the key of a dict."""
    key = b"K\x01K\x02\x86" + b"q\x00h\x00\x86" * times
    assert _is_harmless_pickle(b"\x80\x02}(" + key + b"K\x01u.") == harmless


def test_a_key_so_deep_that_hashing_it_crashes_python_is_refused():
    for depth, harmless in ((50, True), (100_000, False)):
        assert _is_harmless_pickle(b"\x80\x02}(K\x01" + b"\x85" * depth + b"K\x01u.") == harmless


def test_what_callbacks_usually_store_can_be_read():
    stored = {
        "plain": {"a": [1, 2.5, None, True, "x", (1, ("y", 2))], ("k", 1): -(2**63), 1.5: {}},
        "torch": [torch.zeros(2, 3), torch.nn.Parameter(torch.ones(1)), torch.float32, torch.device("cpu")],
        "ordered": torch.nn.Linear(2, 2).state_dict(),
        "complex": 1 + 2j,
        "shared": [betas := (0.9, 0.99), betas],
        "seen": {1, ("a", (2, 3)), torch.Size([4, 5])},
        "counted": Counter("abca"),
        "keys": {((1, 2), (3, 4)): 1, tuple(range(1000)): 2},
        "states": [random.getstate(), np.random.default_rng(1).bit_generator.state],
    }
    AtomicCheckpointIO().save_checkpoint(stored, FILE)
    found = load_safely(FILE)
    for name in ("seen", "counted", "keys", "states"):
        assert found[name] == stored[name], name
    assert found["plain"] == stored["plain"]
    assert found["shared"] == stored["shared"]
    assert [str(part) for part in found["torch"]] == [str(part) for part in stored["torch"]]


UNSAVABLE = {
    "lambda": lambda: None,
    "path": FILE,
    "NumPy's number": np.float64(1),
    "bytes": b"abc",
    "lock": threading.Lock(),
    "lists 300 deep": within(300),
    "lists in lists, doubled 40 times": doubled(list, 40),
}


@pytest.mark.parametrize("state", UNSAVABLE.values(), ids=UNSAVABLE)
def test_what_could_not_be_loaded_is_not_saved(state):
    AtomicCheckpointIO().save_checkpoint({"callbacks": {"Mine": {"seen": 1}}}, FILE)
    with pytest.raises(ConfigError) as refusal:
        AtomicCheckpointIO().save_checkpoint({"global_step": 1, "callbacks": {"Mine": {"seen": state}}}, FILE)
    assert str(refusal.value) == (
        "the state of callback Mine must consist of numbers, texts, tensors, "
        "and lists, tuples, sets and dicts of these, or a run could not be resumed"
    )
    assert load_safely(FILE) == {"callbacks": {"Mine": {"seen": 1}}}


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
KEYS = st.recursive(SCALARS, lambda parts: st.tuples(parts, parts), max_leaves=5)
STATES = st.recursive(
    SCALARS | st.sets(KEYS) | st.binary(),
    lambda parts: st.lists(parts) | st.dictionaries(KEYS, parts) | st.tuples(parts, parts),
    max_leaves=20,
)


@settings(max_examples=40, deadline=None, database=None)
@given(state=STATES)
def test_whatever_is_saved_can_be_loaded(state):
    if archive_of(state) is not None:
        AtomicCheckpointIO().save_checkpoint({"state": state}, FILE)
        assert load_safely(FILE) == {"state": state}
