"""Settings of the Trainer that cannot work are refused: loggers, counts of batches, strategies."""

import pytest
from support.command_line import TINY, refused

BATCHES = "must be a number of batches, because evaluations at times differ from run to run"
NO_EPOCHS = "must not be given, because training is a single endless epoch"


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
        (["--trainer.devices", "1000000"], "trainer.devices (1000000) must be at most 256"),
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
        (
            ["--trainer.max_steps=-1", "--trainer.limit_train_batches=3", "--trainer.max_epochs=-1"],
            "trainer.max_steps (-1) must be set",
        ),
        (["--trainer.limit_train_batches", "0"], "trainer.limit_train_batches (0) must be at least 1"),
        (["--trainer.num_sanity_val_steps", "-2"], "trainer.num_sanity_val_steps (-2) must be at least -1"),
        (["--trainer.min_steps", "6"], "trainer.min_steps (6) must be at most max_steps (5)"),
        (["--trainer.val_check_interval", "00:00:00:01"], f"trainer.val_check_interval (00:00:00:01) {BATCHES}"),
        (["--trainer.val_check_interval", "{seconds: 1}"], f"trainer.val_check_interval ({{'seconds': 1}}) {BATCHES}"),
        (["--trainer.val_check_interval", "0.5"], f"trainer.val_check_interval (0.5) {BATCHES}"),
        (["--trainer.max_epochs", "1"], f"trainer.max_epochs (1) {NO_EPOCHS}: use --trainer.max_steps"),
        (["--trainer.max_epochs=1", "--trainer.max_steps=-1"], f"trainer.max_epochs (1) {NO_EPOCHS}"),
        (["--trainer.max_epochs", "0"], f"trainer.max_epochs (0) {NO_EPOCHS}"),
        (["--trainer.min_epochs", "2"], f"trainer.min_epochs (2) {NO_EPOCHS}: use --trainer.min_steps"),
        (
            ["--trainer.check_val_every_n_epoch", "0"],
            f"trainer.check_val_every_n_epoch (0) {NO_EPOCHS}: use --trainer.",
        ),
        (
            ["--trainer.check_val_every_n_epoch", "1", "--trainer.limit_train_batches", "3"],
            f"trainer.check_val_every_n_epoch (1) {NO_EPOCHS}: use --trainer.val_check_interval, a number of batches",
        ),
    ],
)
def test_settings_that_lightning_leaves_unchecked_are_refused(run, args, message):
    assert refused(run, *TINY, *args).startswith(message)
