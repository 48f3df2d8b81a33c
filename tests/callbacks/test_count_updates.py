"""A resumed run counted in updates: its batches are recounted for the current accumulate_grad_batches."""

import signal
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.command_line import TINY, assert_same_run, rows, states

from chargpt_lightning import CharGPT
from chargpt_lightning.callbacks.count_updates import batches_of

RUN = [*TINY, "--trainer.max_steps", "10", "--trainer.val_check_interval", "4"]


def evaluated(run_dir: Path) -> list[str]:
    return [row["step"] for row in rows(run_dir) if row["val/loss"]]


@pytest.mark.parametrize("saved", ["update", "evaluation"])
def test_batches_are_recounted_after_a_change_of_accumulation(run, interrupt, saved):
    interval = {"update": "5", "evaluation": "3"}[saved]
    interrupt(2)
    assert run(*RUN, "--trainer.val_check_interval", interval).code == 130
    more = ["--trainer.accumulate_grad_batches", "2", "--trainer.val_check_interval", "8"]
    interrupt(7)
    assert run("fit", "--ckpt_path", "last", *more).code == 130
    assert evaluated(Path("runs/version_0"))[-2:] == ["4", "8"]
    assert states(Path("runs/version_0"))["last"]["global_step"] == 8
    assert run("fit", "--ckpt_path", "last").code == 0
    counts = states(Path("runs/version_0"))["last"]["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    assert counts["total"] == counts["current"] == dict.fromkeys(("ready", "started", "processed", "completed"), 20)


def test_each_update_after_a_change_of_accumulation_has_all_batches(run, monkeypatch):
    assert run(*RUN, "--trainer.max_steps", "3").code == 0
    batches = Counter()
    step = CharGPT.training_step

    def training_step(module, batch, batch_idx):
        batches[module.global_step] += 1
        return step(module, batch, batch_idx)

    monkeypatch.setattr(CharGPT, "training_step", training_step)
    more = ["--trainer.accumulate_grad_batches", "2", "--trainer.max_steps", "6"]
    assert run("fit", "--ckpt_path", "last", *more).code == 0
    assert batches == {3: 2, 4: 2, 5: 2}


@pytest.mark.parametrize(
    ("updates", "accumulated", "in_epoch", "batches"),
    [(7, 1, 1.0, (7, 7)), (7, 3, 1.0, (21, 21)), (7, 2, 10, (14, 4)), (6, 2, 4, (12, 0)), (3, 4, 8, (12, 4))],
)
def test_updates_are_converted_to_batches(updates, accumulated, in_epoch, batches):
    trainer = SimpleNamespace(limit_train_batches=in_epoch, accumulate_grad_batches=accumulated)
    assert batches_of(updates, trainer) == batches


def test_a_limit_of_no_batches_counts_as_no_limit():
    assert batches_of(5, SimpleNamespace(limit_train_batches=0, accumulate_grad_batches=2)) == (10, 10)


@pytest.mark.parametrize("killed_in", ["3", "7", "8"], ids=["mid-epoch", "a new epoch", "an evaluated epoch"])
@pytest.mark.parametrize("evaluations", ["1.0", "0"])
def test_an_epoch_resumes_where_it_was(run, during, killed_in, evaluations):
    epochs = [*RUN, "--trainer.limit_train_batches", "8", "--trainer.accumulate_grad_batches", "2"]
    epochs += ["--trainer.limit_val_batches", evaluations]
    assert run(*epochs).code == 0
    during(int(killed_in), happens=lambda: signal.raise_signal(signal.SIGTERM))
    assert run(*epochs).code == 143
    assert run("fit", "--ckpt_path", "last").code == 0
    assert_same_run(Path("runs/version_0"), Path("runs/version_1"))
