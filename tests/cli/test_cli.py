"""The commands from end to end, on a network that learns in a second."""

import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from support.command_line import TINY, rows

from chargpt_lightning import CharGPT


def files() -> set[str]:
    return {str(path) for path in Path().rglob("*") if path.is_file()}


def test_fit_leaves_a_run_with_config_metrics_and_both_checkpoints(tiny_run):
    left = {path.name for path in tiny_run.iterdir()} - {".lock"}  # which Windows takes away
    assert left == {"checkpoints", "config.yaml", "metrics.csv"}
    assert {path.name for path in (tiny_run / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}


@pytest.mark.parametrize(
    ("max_steps", "interval", "evaluated"), [(5, 2, [0, 2, 4, 5]), (4, 2, [0, 2, 4]), (1, 2, [0, 1]), (3, 50, [0, 3])]
)
def test_evaluations_are_before_the_first_update_at_the_interval_and_after_the_last(
    run, max_steps, interval, evaluated
):
    result = run(*TINY, "--trainer.max_steps", str(max_steps), "--trainer.val_check_interval", str(interval))
    assert result.code == 0
    assert re.findall(r"^step (\d+): train loss \d\.\d{4}, val loss \d\.\d{4}$", result.err, re.MULTILINE) == [
        str(step) for step in evaluated
    ]
    logged = [row for row in rows(Path("runs/version_0")) if row["val/loss"]]
    assert [int(row["step"]) for row in logged] == evaluated
    assert all(row["train_eval/loss"] for row in logged)
    last = torch.load("runs/version_0/checkpoints/last.ckpt", weights_only=True)
    assert last["global_step"] == max_steps


def test_every_update_is_logged_with_loss_and_learning_rate(tiny_run):
    updates = [row for row in rows(tiny_run) if row["train/loss"]]
    assert [int(row["step"]) for row in updates] == [0, 1, 2, 3, 4]
    assert [float(row["lr"]) for row in updates[:3]] == pytest.approx([1e-3 / 3, 2e-3 / 3, 1e-3])


@pytest.mark.parametrize(("interval", "logged"), [("2", ["0", "2", "4"]), ("0", [])])
def test_updates_are_logged_at_the_interval(run, interval, logged):
    assert run(*TINY, "--trainer.log_every_n_steps", interval).code == 0
    assert [row["step"] for row in rows(Path("runs/version_0")) if row.get("train/loss")] == logged


def test_the_end_is_saved_without_any_evaluation(run):
    assert run(*TINY, "--trainer.limit_val_batches", "0").code == 0
    assert torch.load("runs/version_0/checkpoints/last.ckpt", weights_only=True)["global_step"] == 5
    assert "checkpoint: runs/version_0/checkpoints/last.ckpt" in run("validate", "--trainer.accelerator", "cpu").err


def test_best_is_the_checkpoint_of_the_lowest_val_loss(run):
    Path("verse.txt").write_text("a" * 900 + "ba" * 50, encoding="utf-8")
    result = run(*TINY, "--trainer.max_steps", "12")
    losses = {
        int(step): float(loss) for step, loss in re.findall(r"^step (\d+): .* val loss (.*)$", result.err, re.MULTILINE)
    }
    del losses[0]  # what is not trained yet is not kept
    best = torch.load("runs/version_0/checkpoints/best.ckpt", weights_only=True)
    assert losses[best["global_step"]] == min(losses.values())
    assert best["global_step"] == 2, "who learns that letters stay can but grow worse where they change"


def test_checkpoints_are_plain_and_tell_vocabulary_and_text(tiny_run):
    checkpoint = torch.load(tiny_run / "checkpoints/best.ckpt", weights_only=True)
    text = Path("verse.txt").read_text(encoding="utf-8")
    assert checkpoint["hyper_parameters"]["alphabet"] == "".join(sorted(set(text)))
    assert checkpoint["CharDataModule"] | {"sha256": ""} == {
        "text": str(Path("verse.txt").absolute()),
        "characters": len(text),
        "train_characters": 1206,
        "alphabet_size": len(set(text)),
        "sha256": "",
    }
    assert len(checkpoint["CharDataModule"]["sha256"]) == 64


def test_a_checkpoint_loads_in_python_as_it_was_saved(tiny_run):
    path = tiny_run / "checkpoints/best.ckpt"
    module = CharGPT.load_from_checkpoint(path)
    saved = torch.load(path, weights_only=True)["state_dict"]
    assert all(torch.equal(value, saved[name]) for name, value in module.state_dict().items())


def test_a_dry_run_writes_nothing(run):
    before = files()
    result = run(*TINY, "--trainer.fast_dev_run", "2")
    assert result.code == 0
    assert "step 2: train loss" in result.err
    assert files() == before


def test_the_summary_says_how_to_sample(run):
    result = run(*TINY)
    best = "runs/version_0/checkpoints/best.ckpt"
    assert re.search(r"^5 steps in \d+\.\d s, [\d,]+ tokens/s$", result.err, re.MULTILINE)
    assert re.search(rf"^best val loss \d\.\d{{4}} at step \d: {best}$", result.err, re.MULTILINE)
    (command,) = re.findall(r"^sample from it: chargpt (.*)$", result.err, re.MULTILINE)
    sampled = run(*command.split(), "--sample.num_samples", "1")
    assert sampled.code == 0
    assert len(sampled.out) == 502


def test_fit_says_nothing_that_nobody_can_act_on(run):
    result = run(*TINY)
    assert result.out == ""
    line = r"text: .*|network: .*|run: .*|step \d: .*|5 steps in .*|best val loss .*|sample from it: .*"
    assert all(re.fullmatch(line, said) for said in result.err.splitlines()), result.err


def test_validate_takes_the_best_checkpoint_of_the_newest_run(run, tiny_run):
    run(*TINY, "--model.n_layer", "2")
    os.utime("runs/version_0/config.yaml", (1, 1))
    result = run("validate", "--trainer.accelerator", "cpu")
    assert "checkpoint: runs/version_1/checkpoints/best.ckpt" in result.err
    os.utime("runs/version_1/config.yaml", (0, 0))
    result = run("validate", "--trainer.accelerator", "cpu")
    assert "checkpoint: runs/version_0/checkpoints/best.ckpt" in result.err


def test_validate_prints_figures_that_a_script_can_read(run, tiny_run):
    before = files()
    result = run("validate", "--trainer.accelerator", "cpu")
    figures = yaml.safe_load(result.out)
    assert list(figures) == ["loss", "bits_per_character", "perplexity", "characters"]
    assert figures["bits_per_character"] == pytest.approx(figures["loss"] * 1.442695, rel=1e-5)
    assert figures["characters"] == (len(Path("verse.txt").read_text(encoding="utf-8")) // 10) // 8 * 8
    assert files() == before


def test_a_checkpoint_needs_no_config_and_no_text(run, tiny_run, tmp_path, monkeypatch):
    checkpoint = str((tiny_run / "checkpoints/best.ckpt").absolute())
    Path("verse.txt").rename("moved.txt")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    result = run("predict", "--ckpt_path", checkpoint, "--sample.num_samples", "1", "--sample.prompt", "When ")
    assert result.code == 0
    assert result.out.startswith("When ")
    text = str(tmp_path / "work" / "moved.txt")
    assert run("validate", "--ckpt_path", checkpoint, "--data.text", text).code == 0
    assert files() == set()


def test_samples_alone_are_on_stdout_and_repeat(run, tiny_run):
    args = ["predict", "--sample.num_samples", "3", "--sample.max_new_tokens", "20", "--sample.prompt", "W"]
    first, second = run(*args), run(*args)
    assert first.out == second.out
    samples = first.out.removesuffix("\n").split("\n---------------\n")
    assert [len(sample) for sample in samples] == [21, 21, 21]
    assert len(set(samples)) == 3
    alone = run(*args, "--sample.num_samples", "1")
    assert alone.out == samples[0] + "\n"
    other = run(*args, "--sample.seed", "1")
    assert other.out != first.out


def test_one_device_samples_however_many_are_named(run, tiny_run):
    args = ["predict", "--trainer.accelerator", "cpu", "--sample.max_new_tokens", "20"]
    several = run(*args, "--trainer.devices", "2", "--trainer.strategy", "ddp")
    assert (several.code, several.out) == (0, run(*args).out)


def test_temperature_zero_draws_the_same_sample_whatever_the_seed(run, tiny_run):
    args = ["predict", "--sample.temperature", "0", "--sample.num_samples", "1", "--sample.seed"]
    assert run(*args, "1").out == run(*args, "2").out


def test_a_prompt_from_a_file(run, tiny_run):
    Path("prompt.txt").write_text("In thunder", encoding="utf-8")
    assert run("predict", "--start=FILE:prompt.txt", "--num_samples=1").out.startswith("In thunder")


def test_flags_beat_files_wherever_they_stand(run):
    Path("my.yaml").write_text("model:\n  n_layer: 3\n  n_head: 2\n", encoding="utf-8")
    for args in (["-c", "my.yaml", "--model.n_layer", "5"], ["--model.n_layer", "5", "--config=my.yaml"]):
        config = yaml.safe_load(run("fit", *args, "--print_config").out)
        assert (config["model"]["n_layer"], config["model"]["n_head"]) == (5, 2)


def test_a_later_file_beats_an_earlier_one(run):
    Path("my.yaml").write_text("model:\n  n_layer: 3\n", encoding="utf-8")
    both = run("fit", "-c", "configs/shakespeare_char.yaml", "-c", "my.yaml", "--print_config").out
    config = yaml.safe_load(both)
    assert (config["model"]["n_layer"], config["model"]["n_embd"]) == (3, 128)


def test_a_saved_config_gives_the_same_run(run, tiny_run):
    losses = [row["train/loss"] for row in rows(tiny_run)]
    assert run("fit", "--config", str(tiny_run / "config.yaml")).code == 0
    assert [row["train/loss"] for row in rows(Path("runs/version_1"))] == losses


def test_a_logger_and_callbacks_of_the_users_stand_beside_ours(run):
    stop = ["--trainer.callbacks", "EarlyStopping", "--trainer.callbacks.monitor", "val/loss"]
    stop += ["--trainer.callbacks.stopping_threshold", "1e9"]
    log = ["--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", "other"]
    assert run(*TINY, *stop, *log).code == 0
    assert torch.load("runs/version_0/checkpoints/last.ckpt", weights_only=True)["global_step"] == 2
    assert rows(Path("runs/version_0")) == rows(Path("other/lightning_logs/version_0"))


def test_checkpoints_and_progress_line_can_be_switched_off(run):
    off = ["--trainer.enable_checkpointing", "false", "--trainer.enable_progress_bar", "false"]
    result = run(*TINY, *off)
    assert result.code == 0
    assert "5 steps in" in result.err
    assert "sample from it" not in result.err
    assert not Path("runs/version_0/checkpoints").exists()


def test_the_progress_line_counts_updates_on_a_terminal(run, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setattr("tqdm.std.tqdm.monitor_interval", 0)  # its thread would outlive the test
    result = run(*TINY, "--trainer.accumulate_grad_batches", "2")
    last = result.err.split("\r")[-1]
    line = re.search(r"step: 100%.* 5/5 .*loss (\d\.\d{3}), lr \d\.\de-\d\d, [\d,]+ tokens/s", last)
    assert line is not None
    assert float(line[1]) == pytest.approx(math.log(21), abs=0.3), "the mean of a batch, not of half of one"


def test_the_seed_governs_weights_and_windows(run, tiny_run):
    run(*TINY, "--seed_everything", "1")
    first, second = (rows(Path(f"runs/version_{n}"))[1]["train/loss"] for n in (0, 1))
    assert first != second


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "64-true"])
def test_other_precisions_train_validate_and_sample(run, precision):
    assert run(*TINY, "--trainer.precision", precision).code == 0
    assert run("validate", "--trainer.accelerator", "cpu").code == 0
    assert run("predict", "--num_samples=1").code == 0


def test_gradients_accumulate_over_batches(run):
    assert run(*TINY, "--trainer.accumulate_grad_batches", "2", "--trainer.val_check_interval", "4").code == 0
    logged = [int(row["step"]) for row in rows(Path("runs/version_0")) if row["val/loss"]]
    assert logged == [0, 2, 4, 5]


def test_help_names_our_settings_with_what_they_mean(run):
    top = run("--help")
    assert top.code == 0
    assert all(subcommand in top.out for subcommand in ("fit", "validate", "predict"))
    fit = run("fit", "--help").out
    assert fit.index("Trains a network and keeps the best.") < 200, "after a short usage"
    for phrase in (
        "--model.n_layer N_LAYER",
        "Attention heads per block; must divide n_embd.",
        "--data.text TEXT",
        "--sample.temperature TEMPERATURE",
        "Linked arguments",
    ):
        assert phrase in fit


def test_a_reader_that_has_seen_enough_is_no_error(tiny_run):
    """As `| head -n 1` is one."""
    command = [sys.executable, "-m", "chargpt_lightning", "predict", "--num_samples=50"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()
        assert process.wait(timeout=120) == 1
    assert re.fullmatch("checkpoint: .*\n", said)


def test_a_sample_is_written_while_it_is_drawn(tiny_run):
    command = [sys.executable, "-m", "chargpt_lightning", "predict", "--start=When ", "--max_new_tokens=1000000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout.read(25).startswith(b"When ")
        assert process.poll() is None
        process.kill()


def test_the_console_script_is_installed():
    script = shutil.which("chargpt", path=Path(sys.executable).parent)
    result = subprocess.run([script, "--help"], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0
    assert "predict" in result.stdout
