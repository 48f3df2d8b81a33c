"""The training settings that a checkpoint carries, by nanoGPT's names."""

from types import SimpleNamespace

import pytest

from chargpt_lightning.checkpoints.training_settings import (
    COUNTS,
    SETTING_TYPES,
    settings_in,
    settings_of,
    updates_between_evaluations,
)


def test_settings_of_another_type_are_ignored():
    numbers = {"batch_size": 3, "grad_clip": 0, "max_iters": 5000}
    others = {"eval_iters": 2.0, "log_interval": True, "eval_interval": "5", "gradient_accumulation_steps": 2**70}
    assert settings_in(numbers | others | {"learning_rate": 1.0}) == numbers
    assert settings_in({"grad_clip": float("nan"), "batch_size": -1}) == {}
    assert settings_in([1, 2]) == settings_in(None) == {}


def trainer(**settings) -> SimpleNamespace:
    """A Trainer of two devices that accumulates three batches and evaluates every four updates."""
    data = SimpleNamespace(batch_size=5, eval_iters=7)
    given = {"val_check_interval": 12, "accumulate_grad_batches": 3, "world_size": 2, "datamodule": data}
    given |= {"gradient_clip_val": 0.5, "gradient_clip_algorithm": "norm", "log_every_n_steps": 10, "max_steps": 100}
    return SimpleNamespace(**given | settings)


def test_a_trainers_settings_have_nanogpts_names_and_count_updates():
    settings = settings_of(trainer())
    assert settings.keys() == SETTING_TYPES.keys() > COUNTS.keys()
    assert settings == {
        **{"batch_size": 5, "eval_iters": 7, "grad_clip": 0.5, "log_interval": 10, "max_iters": 100},
        **{"gradient_accumulation_steps": 6, "eval_interval": 4},
    }


def test_the_batches_of_an_update_are_counted_over_all_devices():
    assert settings_of(trainer(accumulate_grad_batches=6, val_check_interval=24, world_size=1)) == settings_of(
        trainer()
    )


@pytest.mark.parametrize("off", [{"gradient_clip_val": None}, {"gradient_clip_algorithm": "value"}])
def test_no_clipping_and_clipping_by_value_are_zero(off):
    assert settings_of(trainer(**off))["grad_clip"] == 0.0


@pytest.mark.parametrize(
    ("interval", "batches", "updates"),
    [(12, 3, 4), (13, 3, 5), (1, 4, 1), (0.5, 3, None), (None, 3, None), (12, 0, None)],
)
def test_the_interval_between_evaluations_is_counted_in_updates(interval, batches, updates):
    assert updates_between_evaluations(trainer(val_check_interval=interval, accumulate_grad_batches=batches)) == updates
