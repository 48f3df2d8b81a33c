"""The loggers and callbacks of every run, its number of devices, and runs that fail."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from jsonargparse import Namespace
from lightning.pytorch.loggers import CSVLogger, Logger
from support.command_line import TINY, VERSE, refused, rows
from support.platforms import needs

from chargpt_lightning import CharGPT
from chargpt_lightning.loggers.tensorboard import TensorBoard
from chargpt_lightning.sampling.config import SampleConfig
from chargpt_lightning.trainer.setup import count_devices, trainer_arguments


def test_a_users_logger_and_callbacks_are_added_to_those_of_every_run(run):
    stop = ["--trainer.callbacks", "EarlyStopping", "--trainer.callbacks.monitor", "val/loss"]
    stop += ["--trainer.callbacks.stopping_threshold", "1e9"]
    log = ["--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", "other"]
    assert run(*TINY, *stop, *log).code == 0
    assert torch.load("runs/version_0/checkpoints/last.ckpt", weights_only=True)["global_step"] == 2
    assert rows(Path("runs/version_0")) == rows(Path("other/lightning_logs/version_0"))


def test_checkpoints_and_the_progress_line_can_be_switched_off(run):
    off = ["--trainer.enable_checkpointing", "false", "--trainer.enable_progress_bar", "false"]
    result = run(*TINY, *off)
    assert result.code == 0
    assert "5 steps in" in result.err
    assert "sample from it" not in result.err
    assert not Path("runs/version_0/checkpoints").exists()


CPU_ONLY = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the accelerator")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--trainer.devices", "-1"], "trainer: `devices` selected with `CPUAccelerator` should be an int > 0."),
        pytest.param(["--trainer.accelerator", "cuda"], "`CUDAAccelerator` can not run on your system", marks=CPU_ONLY),
        (["--trainer.accelerator", "abacus"], "trainer: You selected an invalid accelerator name"),
        (["--trainer.strategy", "hope"], "trainer: You selected an invalid strategy name"),
        (["--trainer.logger", "false"], "trainer.logger (False) must not be turned off"),
    ],
)
def test_a_trainer_that_cannot_be_made_is_refused_in_one_line(run, args, message):
    assert refused(run, *TINY, *args).startswith(message)


def test_a_run_that_fails_before_its_first_file_leaves_no_directory(run, monkeypatch):
    monkeypatch.setattr("chargpt_lightning.cli.run_config.SaveConfig.save_config", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(*TINY)
    assert list(Path("runs").iterdir()) == []


@pytest.mark.parametrize("interval", ["2", "1000"])
def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_last_checkpoint(run, tiny_run, interval):
    last = (tiny_run / "checkpoints/last.ckpt").read_bytes()
    ruin = ["--model.learning_rate", "1e38", "--model.min_lr", "1e38", "--trainer.val_check_interval", interval]
    result = run("fit", "--ckpt_path", "last", "--trainer.max_steps", "9", *ruin)
    assert result.code == 1
    name = "val/loss" if interval == "2" else "train/loss"
    error = result.err.splitlines()[-1]
    message = rf"error: {name} \((nan|inf)\) at step 6 must be finite; the last good checkpoint: "
    advice = "; try a lower --model.learning_rate or --trainer.gradient_clip_val 1.0"
    assert re.fullmatch(message + "runs/version_0/checkpoints/last.ckpt" + advice, error)
    assert (tiny_run / "checkpoints/last.ckpt").read_bytes() == last


@pytest.mark.parametrize("clip", [[], ["--trainer.gradient_clip_val", "1.0"]])
def test_a_loss_that_is_not_finite_before_the_first_evaluation_is_reported_with_advice(run, clip):
    ruin = ["--model.learning_rate", "1e38", "--model.min_lr", "1e38", "--trainer.val_check_interval", "5"]
    result = run(*TINY, *ruin, *clip, "--trainer.precision", "bf16-mixed")
    flags = ["a lower --model.learning_rate", "--trainer.gradient_clip_val 1.0", "--trainer.precision 32-true"]
    flags = [flag for flag in flags if not clip or "clip" not in flag]
    assert result.code == 1
    assert result.err.endswith(
        f"must be finite; the last good checkpoint: none, because none was saved yet; try {' or '.join(flags)}\n"
    )


def test_a_single_loss_that_is_not_finite_ends_the_run(run, monkeypatch):
    Path("verse.txt").write_text(VERSE * 200, encoding="utf-8")
    step = CharGPT.validation_step

    def validation_step(module, batch, batch_idx, dataloader_idx=0):
        with torch.no_grad():
            module.gpt.transformer.wte.weight[0, 0] = float("nan") if batch_idx == 1 else 0.0
        return step(module, batch, batch_idx, dataloader_idx)

    monkeypatch.setattr(CharGPT, "validation_step", validation_step)
    result = run(*TINY)
    assert result.code == 1
    assert (
        "error: val/loss (nan) at step 0 must be finite; the last good checkpoint: none, because none was saved yet"
        in result.err
    )


@pytest.mark.parametrize(("devices", "nodes", "count"), [("auto", 1, 1), (1, 1, 1), (3, 1, 3), (2, 3, 6)])
def test_devices_are_counted_over_all_nodes(devices, nodes, count):
    given = {"accelerator": "cpu", "strategy": "auto", "devices": devices, "num_nodes": nodes, "plugins": None}
    assert count_devices(Namespace(given)) == count


@needs("tensorboard")
def test_samples_are_drawn_for_loggers_that_show_text_only():
    def callbacks(logger: Logger | None) -> list[str]:
        given = {"default_root_dir": "runs", "callbacks": None, "plugins": None, "logger": logger}
        given |= {"enable_progress_bar": None, "enable_checkpointing": None}
        settings = trainer_arguments(SimpleNamespace(**given), None, SampleConfig())
        return [type(callback).__name__ for callback in settings["callbacks"]]

    assert callbacks(TensorBoard()) == [*callbacks(None), "LogSamples"]
    assert callbacks(CSVLogger("other")) == callbacks(None)
