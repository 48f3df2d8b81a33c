"""Callbacks that cannot work are refused."""

import re

import pytest
from support.command_line import TINY, files, refused
from support.toolbox import SECTIONS, from_docs, with_callback

from chargpt_lightning.trainer.callback_validation import INSTEAD

RUN = "runs/version_0"


def test_a_found_learning_rate_below_min_lr_is_refused(run):
    tool = with_callback("LearningRateFinder", max_lr=1e-5, num_training_steps=20)
    before = files()
    result = run(*TINY, *tool)
    assert result.code == 1
    assert "error: min_lr (0.0001) must be from 0 to learning_rate (" in result.err
    assert files() - before <= {"runs"}


@pytest.mark.parametrize("directory", [RUN, f"{RUN}/checkpoints"])
def test_a_users_checkpoint_in_the_directory_of_a_run_is_refused(run, tiny_run, directory):
    tool = with_callback("ModelCheckpoint", dirpath=directory, filename="best", enable_version_counter=False)
    message = refused(run, *TINY, *tool)
    assert message.startswith(f"ModelCheckpoint.dirpath ({directory}) must not be in the directory of a run (")


def test_the_docs_list_the_callbacks_that_are_refused():
    listed = re.findall(r"^\| `(\w+)` \|", SECTIONS["What cannot work, and why"], re.MULTILINE)
    assert set(listed) == set(INSTEAD)


@pytest.mark.parametrize("flags", [[], ["--print_config"]], ids=["run", "print"])
@pytest.mark.parametrize("name", INSTEAD)
def test_callbacks_that_would_break_a_run_are_refused(run, name, flags):
    needed = {"OnExceptionCheckpoint": {"dirpath": "."}, "StochasticWeightAveraging": {"swa_lrs": 0.1}}
    tool = with_callback(name, **needed.get(name, {}))
    expected = f"trainer.callbacks ({name}) must not be used, because {INSTEAD[name]}"
    assert refused(run, *TINY, *tool, *flags) == expected


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("EarlyStopping", {"monitor": "train/loss"}, "EarlyStopping.monitor (train/loss) must be one of val/loss, "),
        ("EarlyStopping", {"monitor": "val/loss", "mode": "up"}, "trainer: `mode` can be min, max, got up"),
        (
            "EarlyStopping",
            {"monitor": "val/loss", "check_on_train_epoch_end": True},
            "EarlyStopping.check_on_train_epoch_end (True) must not be given, because training is a single",
        ),
        (
            "GradientAccumulationScheduler",
            {"scheduling": {0: 1, 5: 2}},
            "GradientAccumulationScheduler.scheduling ({0: 1, 5: 2}) must be {0: n}, because training is a single",
        ),
        ("GradientAccumulationScheduler", {"scheduling": {0: 0}}, "scheduling (0) must be at least 1"),
        (
            "LearningRateFinder",
            {"attr_name": "min_lr"},
            "LearningRateFinder.attr_name (min_lr) must not be given, because it sets model.learning_rate",
        ),
        (
            "LearningRateFinder",
            {"update_attr": False},
            "LearningRateFinder.update_attr (False) must not be given, because its result would not be used",
        ),
        ("ModelCheckpoint", {"monitor": "loss"}, "ModelCheckpoint.monitor (loss) must be one of val/loss, "),
        ("ModelCheckpoint", {"every_n_epochs": 2}, "ModelCheckpoint.every_n_epochs (2) must not be given, because"),
        (
            "ModelCheckpoint",
            {"every_n_train_steps": 2},
            "ModelCheckpoint.every_n_train_steps (2) must not be given, because only a checkpoint",
        ),
        (
            "ModelCheckpoint",
            {"train_time_interval": "00:01:00"},
            "ModelCheckpoint.train_time_interval (0:01:00) must not be given, because only a checkpoint saved after",
        ),
        ("ModelCheckpoint", {"filename": "best"}, "ModelCheckpoint.filename (best) must not be used without dirpath,"),
        ("ModelCheckpoint", {"save_last": True}, "ModelCheckpoint.save_last (True) must not be used without dirpath,"),
    ],
)
def test_arguments_of_callbacks_that_cannot_work_are_refused(run, name, arguments, message):
    assert refused(run, *TINY, *with_callback(name, **arguments)).startswith(message)


def test_the_learning_rate_finder_is_refused_with_muon(run):
    message = refused(run, *TINY, "--model.optimizer", "muon", *from_docs("LearningRateFinder"))
    assert message.startswith("trainer.callbacks (LearningRateFinder) must not be used, because it tries one rate")


def test_weight_averaging_of_a_sharded_network_is_refused(run):
    strategy = ["ModelParallelStrategy", "--trainer.strategy.tensor_parallel_size", "1"]
    strategy += ["--trainer.strategy.save_distributed_checkpoint", "false"]
    message = refused(run, *TINY, "--trainer.strategy", *strategy, *from_docs("EMAWeightAveraging"))
    assert message.startswith("trainer.callbacks (EMAWeightAveraging) must not be used with ModelParallelStrategy")


def test_two_different_numbers_of_accumulated_batches_are_refused(run):
    tool = from_docs("GradientAccumulationScheduler")
    message = refused(run, *TINY, "--trainer.accumulate_grad_batches", "3", *tool)
    assert message == "trainer.accumulate_grad_batches (3) must be 4, as in the scheduler, or not be given"
