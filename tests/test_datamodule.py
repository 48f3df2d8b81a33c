"""The batches that a Trainer gets: random windows to train on, fixed windows to evaluate on, and the prompt."""

import hashlib
import pickle
import shutil
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.trainer.states import TrainerFn
from support.command_line import VERSE
from support.platforms import not_on_windows
from support.processes import FORK

from chargpt_lightning import CharDataModule, datamodule
from chargpt_lightning.data.corpus import cache_directory
from chargpt_lightning.data.windows import (
    Batch,
    MappedIds,
)
from chargpt_lightning.utils.errors import ConfigError

LENGTH = 1000


@pytest.fixture
def counting():
    """Writes a text whose n-th character has the id n, so that a window shows where it was cut."""
    Path("counting.txt").write_text("".join(chr(0x4E00 + n) for n in range(LENGTH)), encoding="utf-8")
    return lambda **settings: CharDataModule("counting.txt", **{"batch_size": 4, "block_size": 8} | settings)


def trainer(step=0, rank=0, devices=1, accumulate=1, fn=TrainerFn.FITTING, device="cpu"):
    return SimpleNamespace(
        global_step=step,
        distributed_sampler_kwargs={"rank": rank, "num_replicas": devices},
        accumulate_grad_batches=accumulate,
        overfit_batches=0.0,
        state=SimpleNamespace(fn=fn),
        strategy=SimpleNamespace(root_device=torch.device(device)),
    )


def train_batches(data: CharDataModule, number: int) -> list[torch.Tensor]:
    return [ids for ids, _ in islice(data.train_dataloader(), number)]


def digest(batches: Iterable[Batch]) -> str:
    ids = torch.cat([torch.cat(batch, dim=1) for batch in batches])
    return hashlib.sha256(ids.numpy().tobytes()).hexdigest()[:16]


def test_batches_are_those_of_the_text_as_one_tensor():
    """The digests are from before texts were memory-mapped."""
    Path("verse.txt").write_text(VERSE * 2000, encoding="utf-8")
    verses = CharDataModule("verse.txt", eval_iters=3)
    assert digest(islice(verses.train_dataloader(), 50)) == "907097185b35ae13"
    assert [digest(loader) for loader in verses.val_dataloader()] == ["1c2e309a764f43c2", "379a90cf0ff5568f"]
    verses.trainer = trainer(fn=TrainerFn.VALIDATING)
    assert [digest(loader) for loader in verses.val_dataloader()] == ["28b70398fa1d43f6"]


def test_with_an_accelerator_windows_are_cut_on_it(counting):
    batches = counting()
    batches.trainer = trainer(device="meta")
    for loader in (batches.train_dataloader(), *batches.val_dataloader()):
        ids, targets = next(iter(loader))
        assert (ids.device.type, targets.device.type, ids.shape) == ("meta", "meta", (4, 8))


def test_too_many_ids_for_an_accelerator_are_cut_from_the_file(counting, monkeypatch):
    monkeypatch.setattr(datamodule, "MAX_DEVICE_BYTES", LENGTH * 2 - 1)
    batches = counting()
    batches.trainer = trainer(device="meta")
    assert next(iter(batches.train_dataloader()))[0].device.type == "cpu"


def test_workers_cut_from_the_file_although_there_is_an_accelerator(counting):
    batches = counting(num_workers=1)
    batches.trainer = trainer(device="meta")
    assert isinstance(batches.train_dataloader().dataset.cut.__self__, MappedIds)


@not_on_windows("nothing that is mapped is deleted")
def test_a_run_continues_when_its_cache_is_deleted(counting):
    expected, batches = train_batches(counting(), 3), counting()
    batches.train_dataloader()
    shutil.rmtree(cache_directory())
    assert all(map(torch.equal, expected, train_batches(batches, 3)))
    (ids, _), *_ = batches.val_dataloader()[0]
    assert ids.min() >= 900


def test_a_pickled_dataset_contains_no_ids(counting):
    sizes = [len(pickle.dumps(data.train_dataloader().dataset)) for data in (CharDataModule("verse.txt"), counting())]
    assert max(sizes) < 1000


def test_spawned_workers_keep_the_order_and_the_position(counting):
    plain = counting()
    plain.trainer = trainer(step=3)
    data = counting(num_workers=2)
    data.trainer = trainer(step=3)
    data.trainer.cannot_be_sent = lambda: None  # like a real trainer
    loader = data.train_dataloader()
    loader.multiprocessing_context = FORK  # sends workers what spawning would
    assert all(map(torch.equal, train_batches(plain, 5), [ids for ids, _ in islice(loader, 5)]))
    data.trainer.global_step = 4
    (first, _), (expected, _) = next(iter(loader)), list(islice(plain.train_dataloader(), 2))[1]
    assert torch.equal(first, expected)


def test_targets_are_one_character_ahead(counting):
    for ids, targets in islice(counting().train_dataloader(), 50):
        assert ids.shape == targets.shape == (4, 8)
        assert torch.equal(targets, ids + 1)
        assert torch.equal(ids, ids[:, :1] + torch.arange(8))


def test_training_windows_reach_all_of_the_train_split_and_nothing_else(counting):
    windows = torch.cat([torch.cat([ids, targets], 1) for ids, targets in islice(counting().train_dataloader(), 2000)])
    assert windows.min() == 0
    assert windows.max() == 899
    assert set(windows[:, 0].tolist()) == set(range(900 - 8))


def test_training_windows_are_a_function_of_seed_and_step(counting):
    first = train_batches(counting(), 6)
    assert all(map(torch.equal, first, train_batches(counting(), 6)))
    assert not any(map(torch.equal, first, train_batches(counting(seed=1), 6)))
    resumed = counting()
    resumed.trainer = trainer(step=2, accumulate=2)
    assert all(map(torch.equal, first[4:], train_batches(resumed, 2)))


def test_devices_share_the_batch_that_one_device_would_get(counting):
    together = train_batches(counting(batch_size=6), 3)
    shares = []
    for rank in range(3):
        data = counting(batch_size=2)
        data.trainer = trainer(rank=rank, devices=3)
        shares.append(train_batches(data, 3))
    assert all(
        torch.equal(batch, torch.cat(parts)) for batch, parts in zip(together, zip(*shares, strict=True), strict=True)
    )


def test_validate_evaluates_each_full_window_once(counting):
    data = counting()
    data.trainer = trainer(fn=TrainerFn.VALIDATING)
    (loader,) = data.val_dataloader()
    batches = list(loader)
    assert sorted(torch.cat([targets for _, targets in batches]).flatten().tolist()) == list(range(901, 901 + 96))
    assert [len(ids) for ids, _ in batches] == [4, 4, 4]


def test_devices_share_out_the_validation_windows(counting):
    targets = []
    for rank in range(5):
        data = counting()
        data.trainer = trainer(rank=rank, devices=5, fn=TrainerFn.VALIDATING)
        targets += [targets for _, targets in data.val_dataloader()[0]]
    assert sorted(torch.cat(targets).flatten().tolist()) == list(range(901, 901 + 96))


def test_evaluations_in_training_use_the_same_windows_each_time(counting):
    data = counting(eval_iters=2)
    data.trainer = trainer()
    first, second = ([list(loader) for loader in data.val_dataloader()] for _ in range(2))
    for split, again, low, high in zip(first, second, (900, 0), (1000, 900), strict=True):
        assert [ids.shape for ids, _ in split] == [(4, 8), (4, 8)]
        for (ids, targets), (ids_again, _) in zip(split, again, strict=True):
            assert torch.equal(ids, ids_again)
            assert low <= ids.min()
            assert targets.max() < high


def test_a_longer_evaluation_begins_with_the_windows_of_a_shorter(counting):
    short, long = (list(counting(eval_iters=n).val_dataloader()[1]) for n in (2, 5))
    assert all(torch.equal(a[0], b[0]) for a, b in zip(short, long[:2], strict=True))


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_text_shorter_than_a_window_is_refused(split):
    text, block_size = ("ab" * 20, 36) if split == "train" else ("ab" * 20, 4)
    Path("short.txt").write_text(text, encoding="utf-8")
    with pytest.raises(
        ConfigError, match=rf"its {split} split has \d+ characters, and block_size \({block_size}\) needs"
    ):
        CharDataModule("short.txt", block_size=block_size).setup("fit")


def test_the_shortest_possible_text_works():
    Path("short.txt").write_text("ab" * 25, encoding="utf-8")
    data = CharDataModule("short.txt", block_size=4)
    data.setup("fit")
    assert len(next(iter(data.train_dataloader()))[0]) == 12
    assert len(next(iter(data.val_dataloader()[0]))[0]) == 1


@pytest.mark.parametrize("name", ["batch_size", "block_size", "eval_iters", "num_samples"])
def test_counts_below_one_are_refused(name):
    with pytest.raises(ConfigError, match=rf"{name} \(0\) must be at least 1"):
        CharDataModule("verse.txt", **{name: 0})


def test_a_given_alphabet_refuses_a_text_with_other_characters():
    with pytest.raises(
        ConfigError, match=r"data.text \('W' at position 0 of verse.txt\) must use only the 2 characters"
    ):
        CharDataModule("verse.txt", alphabet="ab").setup("validate")


def test_predict_needs_a_prompt_and_no_text():
    Path("prompt.txt").write_text("cab", encoding="utf-8")
    data = CharDataModule("no such file", alphabet="abc", prompt="FILE:prompt.txt", num_samples=2)
    data.setup("predict")
    assert [(samples, ids.tolist()) for samples, ids in data.predict_dataloader()] == [([0, 1], [2, 0, 1])]


def test_a_prompt_file_that_cannot_be_read_is_refused():
    with pytest.raises(ConfigError, match=r"prompt \(none.txt\) must be a readable file"):
        CharDataModule(alphabet="abc", prompt="FILE:none.txt").predict_dataloader()


def test_a_negative_number_of_workers_is_refused():
    with pytest.raises(ConfigError, match=r"num_workers \(-1\) must be at least 0"):
        CharDataModule("verse.txt", num_workers=-1)
    with pytest.raises(ConfigError, match=r"num_workers \(1000\) must be at most 256"):
        CharDataModule("verse.txt", num_workers=1000)


def test_the_first_nine_tenths_of_all_files_are_the_train_split(books):
    data = CharDataModule("books/**/*.txt", block_size=8)
    data.setup("fit")
    assert (data.state_dict()["train_characters"], data.state_dict()["characters"]) == (1206, 1340)
    assert data.splits == (range(1206), range(1206, 1340))
