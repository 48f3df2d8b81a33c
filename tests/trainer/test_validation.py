"""Settings of the Trainer that cannot work are refused: loggers, counts of batches, strategies."""

import pytest
from support.command_line import TINY, refused


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ("0.1", "trainer.overfit_batches (0.1) must be a number of batches, because training windows never end"),
        ("1.0", "trainer.overfit_batches (1.0) must be a number of batches, because training windows never end"),
        ("-1", "trainer.overfit_batches (-1) must be a multiple of accumulate_grad_batches (2)"),
        ("3", "trainer.overfit_batches (3) must be a multiple of accumulate_grad_batches (2)"),
    ],
)
def test_numbers_of_batches_to_overfit_that_cannot_work_are_refused(run, batches, message):
    flags = ["--trainer.overfit_batches", batches, "--trainer.accumulate_grad_batches", "2"]
    assert refused(run, *TINY, *flags) == message


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
