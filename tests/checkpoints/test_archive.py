"""Checkpoints whose content a few bytes could expand to hours or gigabytes are refused at once."""

import time
from collections import OrderedDict
from pathlib import Path

import pytest
import torch

from chargpt_lightning.checkpoints.archive import _is_harmless_pickle
from chargpt_lightning.checkpoints.io import load_safely
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


SHARED = [(str(number), number) for number in range(100)]
HARMFUL = {
    "lists in lists, doubled 40 times": [doubled(list, 40)],
    "lists 300 deep": within(300),
    "a long tuple as a key": {tuple(range(1000)): 1},
    "a key of tuples in tuples": {((1, 2), (3, 4)): 1},
    "a set made of a list": Reduced(set, SHARED),
    "a dict made of a list": [Reduced(OrderedDict, SHARED) for _ in range(2)],
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


def test_a_key_that_takes_forever_to_hash_is_refused():
    """The pair (1, 2), or a pair of the same two pairs, and so on, is the key of a dict."""
    for times, harmless in ((0, True), (1, False), (60, False)):
        key = b"K\x01K\x02\x86" + b"q\x00h\x00\x86" * times
        assert _is_harmless_pickle(b"\x80\x02}(" + key + b"K\x01u.") == harmless


def test_what_callbacks_usually_store_can_be_read():
    stored = {
        "plain": {"a": [1, 2.5, None, True, "x", (1, ("y", 2))], ("k", 1): -(2**63), 1.5: {}},
        "torch": [torch.zeros(2, 3), torch.nn.Parameter(torch.ones(1)), torch.float32, torch.device("cpu")],
        "ordered": torch.nn.Linear(2, 2).state_dict(),
        "complex": 1 + 2j,
        "shared": [betas := (0.9, 0.99), betas],
    }
    torch.save(stored, FILE)
    found = load_safely(FILE)
    assert found["plain"] == stored["plain"]
    assert found["shared"] == stored["shared"]
    assert [str(part) for part in found["torch"]] == [str(part) for part in stored["torch"]]
