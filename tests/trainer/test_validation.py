"""Settings of the Trainer that cannot work are refused: callbacks, loggers, counts of batches, strategies."""

import re

import pytest
from support.command_line import TINY, files, refused
from support.toolbox import SECTIONS, from_docs, with_callback

from chargpt_lightning.trainer.validation import INSTEAD

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


@pytest.mark.parametrize("batches", ["0.1", "1.0"])
def test_a_fraction_of_batches_to_overfit_is_refused(run, batches):
    message = f"trainer.overfit_batches ({batches}) must be a number of batches, because training windows never end"
    assert refused(run, *TINY, "--trainer.overfit_batches", batches) == message


def test_a_negative_number_of_batches_to_overfit_is_refused(run):
    assert refused(run, *TINY, "--trainer.overfit_batches=-2") == "trainer.overfit_batches (-2) must be at least 0"


@pytest.mark.parametrize("setting", ["val_check_interval", "limit_train_batches", "overfit_batches"])
def test_what_ends_within_an_update_is_refused(run, setting):
    accumulated = ["--trainer.accumulate_grad_batches", "4", "--trainer.val_check_interval", "4"]
    assert refused(run, *TINY, *accumulated, f"--trainer.{setting}", "10") == (
        f"trainer.{setting} (10) must be a multiple of accumulate_grad_batches (4), "
        "because a run resumes exactly only between updates: use 12"
    )


@pytest.mark.parametrize(("logger", "package"), [("TensorBoard", "tensorboard"), ("Wandb", "wandb")])
def test_a_logger_whose_package_is_missing_is_refused(run, monkeypatch, logger, package):
    monkeypatch.setattr("chargpt_lightning.utils.errors.find_spec", lambda name: None)
    message = f"trainer.logger ({logger}) needs the package {package}: pip install {package}"
    assert message in refused(run, *TINY, "--trainer.logger", logger)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--trainer.accumulate_grad_batches", "0"], "trainer.accumulate_grad_batches (0) must be at least 1"),
        (["--trainer.val_check_interval", "0"], "trainer.val_check_interval (0) must be at least 1"),
        (["--trainer.gradient_clip_val", "-1"], "trainer.gradient_clip_val (-1) must be at least 0"),
        (["--trainer.log_every_n_steps", "-1"], "trainer.log_every_n_steps (-1) must be at least 0"),
        (
            ["--trainer.strategy", "ModelParallelStrategy", "--trainer.strategy.data_parallel_size", "2"],
            "trainer.strategy.tensor_parallel_size (auto) must be 1, because the network is sharded by data_parallel",
        ),
        (
            ["--trainer.strategy", "ModelParallelStrategy", "--trainer.strategy.tensor_parallel_size", "1"],
            "trainer.strategy.save_distributed_checkpoint (True) must be False, because a checkpoint is one file",
        ),
        (["--trainer.max_steps", "-1"], "trainer.max_steps (-1) must be set, because the training windows never end"),
        (["--trainer.max_steps=-1", "--trainer.limit_train_batches=1.0"], "trainer.max_steps (-1) must be set"),
    ],
)
def test_settings_that_lightning_leaves_unchecked_are_refused(run, args, message):
    assert refused(run, *TINY, *args).startswith(message)
