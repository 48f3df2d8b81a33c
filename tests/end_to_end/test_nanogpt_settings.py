"""`fit` from a checkpoint of nanoGPT's uses the training settings in it, unless the user gives others."""

from pathlib import Path

import pytest
import torch
import yaml
from support.command_line import exact_rows, refused, rows
from support.nanogpt_training import CONFIG, STEPS, NanoGPT, lay_out

from chargpt_lightning.checkpoints.nanogpt import TRAINING


def settings(run_dir: str = "runs/version_0") -> dict:
    """The training settings in a run's config.yaml."""
    config = yaml.safe_load(Path(run_dir, "config.yaml").read_text(encoding="utf-8"))
    trainer = ("max_steps", "val_check_interval", "log_every_n_steps", "accumulate_grad_batches", "gradient_clip_val")
    return {name: config["trainer"][name] for name in trainer} | {
        name: config["data"][name] for name in ("batch_size", "eval_iters")
    }


OF_THE_RUN = {
    **{"grad_clip": 0.5, "batch_size": 3, "gradient_accumulation_steps": 4, "eval_interval": 5, "eval_iters": 2},
    **{"log_interval": 2, "max_iters": 11},
}
BY_LIGHTNINGS_NAMES = {
    **{"max_steps": 11, "val_check_interval": 20, "log_every_n_steps": 2, "accumulate_grad_batches": 4},
    **{"gradient_clip_val": 0.5, "batch_size": 3, "eval_iters": 2},
}


def import_with(config: dict, steps: int = STEPS) -> list[str]:
    """Writes a checkpoint with these settings; returns the command that resumes it."""
    path = lay_out(NanoGPT().train(steps).content() | {"config": CONFIG | config})
    return ["fit", "--ckpt_path", str(path), "--trainer.accelerator", "cpu"]


def test_fit_uses_nanogpts_training_settings(run):
    result = run(*import_with(OF_THE_RUN))
    assert result.code == 0, result.err
    assert settings() == BY_LIGHTNINGS_NAMES
    assert [row["step"] for row in rows(Path("runs/version_0")) if row["val/loss"]] == ["10", "11"]


@pytest.mark.parametrize(("given", "clip"), [({}, 1.0), ({"grad_clip": 0.0}, 0.0), ({"grad_clip": "x"}, 1.0)])
def test_gradients_are_clipped_by_nanogpts_default(run, given, clip):
    assert run(*import_with(given), "--trainer.max_steps", "7").code == 0
    assert settings()["gradient_clip_val"] == clip


def test_the_users_settings_override_nanogpts(run):
    Path("mine.yaml").write_text("trainer: {gradient_clip_val: 0.25}\ndata: {batch_size: 5}\n", encoding="utf-8")
    fit = import_with(OF_THE_RUN)
    mine = ["--config", "mine.yaml", "--max_iters=8", "--trainer.accumulate_grad_batches", "2"]
    assert run(*fit, *mine).code == 0
    changed = {"gradient_clip_val": 0.25, "batch_size": 5, "max_steps": 8}
    assert settings() == BY_LIGHTNINGS_NAMES | changed | {"accumulate_grad_batches": 2, "val_check_interval": 10}
    assert run(*fit, "--eval_interval=3").code == 0
    assert settings("runs/version_1") == BY_LIGHTNINGS_NAMES | {"val_check_interval": 12}


def test_devices_share_the_batches_of_nanogpts_update(run):
    fit = [*import_with(OF_THE_RUN), "--trainer.devices", "2"]
    trainer = yaml.safe_load(run(*fit, "--print_config").out)["trainer"]
    assert (trainer["accumulate_grad_batches"], trainer["val_check_interval"]) == (2, 10)
    fit[-1] = "3"
    message = "gradient_accumulation_steps (4) must be divisible by the number of devices (3)"
    assert refused(run, *fit).startswith(message)
    trainer = yaml.safe_load(run(*fit, "--gradient_accumulation_steps=6", "--print_config").out)["trainer"]
    assert (trainer["accumulate_grad_batches"], trainer["val_check_interval"]) == (2, 10)
    trainer = yaml.safe_load(run(*fit, "--trainer.accumulate_grad_batches=3", "--print_config").out)["trainer"]
    assert (trainer["accumulate_grad_batches"], trainer["val_check_interval"]) == (3, 15)


@pytest.mark.parametrize("name", OF_THE_RUN)
def test_a_setting_that_is_no_number_of_its_type_is_ignored(run, name):
    others = {other: OF_THE_RUN[other] for other in OF_THE_RUN if other != name}
    path = (fit := import_with(others))[2]
    without = run(*fit, "--print_config")
    checkpoint = torch.load(path, weights_only=True)
    for value in ("x", None, [1], {}, True, float("nan"), -1):
        torch.save(checkpoint | {"config": checkpoint["config"] | {name: value}}, path)
        result = run(*fit, "--print_config")
        assert (result.code, result.out) == (0, without.out), value


@pytest.mark.parametrize("subcommand", ["validate", "predict"])
def test_validate_and_predict_ignore_training_settings(run, subcommand):
    path = import_with(OF_THE_RUN | {"gradient_accumulation_steps": 7, "batch_size": 10**9})[2]
    assert run(subcommand, "--ckpt_path", path, "--trainer.devices", "1", "--trainer.accelerator", "cpu").code == 0


@pytest.mark.parametrize("batches", [1, 2])
@pytest.mark.parametrize(("steps", "evaluated"), [(6, ["10", "15", "17"]), (10, ["15", "17"])])
def test_a_resumed_run_evaluates_at_multiples_of_the_interval(run, batches, steps, evaluated):
    config = OF_THE_RUN | {"gradient_accumulation_steps": batches, "max_iters": 17, "log_interval": 1}
    assert run(*import_with(config, steps), "--trainer.callbacks", "LearningRateMonitor").code == 0
    logged = rows(Path("runs/version_0"))
    assert [row["step"] for row in logged if row["val/loss"]] == evaluated
    assert {int(row["step"]) for row in logged if row["lr-AdamW/pg1"]} == set(range(steps, 17))


def test_a_run_stops_after_an_evaluation_that_is_due(run, interrupt):
    fit = import_with(OF_THE_RUN)
    interrupt(9)
    assert run(*fit).code == 130
    assert [row["step"] for row in rows(Path("runs/version_0")) if row["val/loss"]] == ["10"]
    assert run("fit", "--ckpt_path", "last").code == 0
    assert run(*fit).code == 0
    assert exact_rows(Path("runs/version_0")) == exact_rows(Path("runs/version_1"))


def test_the_users_optimizer_settings_override_nanogpts(run):
    path = lay_out(NanoGPT().train(STEPS).content())
    more = ["--trainer.max_steps", "8", "--model.beta1", "0.7", "--trainer.accelerator", "cpu"]
    assert run("fit", "--ckpt_path", str(path), *more).code == 0
    hparams = torch.load("runs/version_0/checkpoints/last.ckpt", weights_only=True)["hyper_parameters"]
    assert {name: hparams[name] for name in TRAINING} == {name: CONFIG[name] for name in TRAINING} | {"beta1": 0.7}
    message = refused(run, "fit", "--ckpt_path", str(path), *more, "--model.n_layer", "3")
    assert message.startswith("model.n_layer (3) must be 2")
