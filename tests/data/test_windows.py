"""Where the windows of each batch start, and that they are cut the same from a file and from a tensor."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from chargpt_lightning.data import windows
from chargpt_lightning.data.windows import (
    MappedIds,
    cut_from_tensor,
    eval_offsets,
    evaluation_order,
    random_offsets,
)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32"])
def test_windows_are_the_same_cut_from_a_file_or_a_tensor(dtype):
    ids = np.arange(200).astype(dtype)
    ids.tofile("ids")
    starts = np.array([7, 0, 195])
    expected = torch.from_numpy(starts)[:, None] + torch.arange(5)
    mapped = MappedIds(Path("ids"), ids.dtype)
    for cut in (mapped.cut(starts, 5), cut_from_tensor(torch.from_numpy(ids), starts, 5)):
        assert cut.dtype == torch.int64
        assert torch.equal(cut, expected)


@pytest.mark.parametrize("most_shuffled", [1, 7, 50])
def test_an_evaluation_has_each_window_once_and_begins_all_over_the_split(monkeypatch, most_shuffled):
    monkeypatch.setattr(windows, "MAX_SHUFFLED", most_shuffled)
    for number in range(1, 80):
        order = evaluation_order(1337, number)(np.arange(number))
        assert sorted(order) == list(range(number))
        stride = math.ceil(number / most_shuffled)
        first = order[: number // stride]
        assert sorted(first) == list(range(0, len(first) * stride, stride))
        if number <= most_shuffled:
            assert order.tolist() == np.random.default_rng(1337).permutation(number).tolist()


def test_devices_share_out_the_windows_of_a_large_split(monkeypatch):
    monkeypatch.setattr(windows, "MAX_SHUFFLED", 7)
    share = {"seed": 1, "windows": 53, "block_size": 8, "limit": None, "batch_size": 3, "devices": 2}
    offsets_of_all = np.concatenate([offsets for rank in (0, 1) for offsets in eval_offsets(0, rank=rank, **share)])
    assert sorted(offsets_of_all) == [window * 8 for window in range(53)]


def test_the_offsets_of_a_batch_are_the_same_on_every_machine():
    assert random_offsets(seed=1, batch=7, windows=100, size=4).tolist() == [77, 35, 51, 61]


def test_offsets_are_drawn_evenly():
    drawn = np.concatenate([random_offsets(1, batch, 10, 4) for batch in range(500)])
    assert np.bincount(drawn, minlength=10).min() > 150
