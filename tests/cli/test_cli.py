"""Flags, their help and their errors, and what `validate` and `predict` print."""

from pathlib import Path

import pytest
import torch
import yaml
from support.command_line import TINY, files, refused, rows


def test_validate_prints_its_figures_as_yaml(run, tiny_run):
    before = files()
    result = run("validate", "--trainer.accelerator", "cpu")
    figures = yaml.safe_load(result.out)
    assert list(figures) == ["loss", "bits_per_character", "perplexity", "characters"]
    assert figures["bits_per_character"] == pytest.approx(figures["loss"] * 1.442695, rel=1e-5)
    assert figures["characters"] == (len(Path("verse.txt").read_text(encoding="utf-8")) // 10) // 8 * 8
    assert files() == before


def test_one_device_samples_however_many_are_given(run, tiny_run):
    args = ["predict", "--trainer.accelerator", "cpu", "--sample.max_new_tokens", "20"]
    several = run(*args, "--trainer.devices", "2", "--trainer.strategy", "ddp")
    assert (several.code, several.out) == (0, run(*args).out)


def test_another_seed_is_another_run(run, tiny_run):
    run(*TINY, "--seed_everything", "1")
    first, second = (rows(Path(f"runs/version_{n}"))[1]["train/loss"] for n in (0, 1))
    assert first != second


def test_help_describes_the_settings_of_the_package(run):
    top = run("--help")
    assert top.code == 0
    assert all(subcommand in top.out for subcommand in ("fit", "validate", "predict"))
    fit = run("fit", "--help").out
    assert fit.index("Trains a network and keeps the best.") < 200, "after a short usage"
    for phrase in (
        "--model.n_layer N_LAYER",
        "Attention heads per block; must divide n_embd.",
        "--data.text+ TEXT",
        "--sample.temperature TEMPERATURE",
    ):
        assert phrase in fit


def test_an_untrained_network_is_not_sampled(run, tiny_run):
    path = tiny_run / "checkpoints/last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    torch.save(checkpoint | {"global_step": 0}, path)
    message = f"ckpt_path ({path.as_posix()}) must be saved after an update, but it is of step 0"
    assert refused(run, "predict", "--ckpt_path", "last") == message


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--model.n_head", "x"], "Parser key \"model.n_head\": Expected a <class 'int'>. Got value: x"),
        (["--model.n_head", "2.0"], "Parser key \"model.n_head\": Expected a <class 'int'>. Got value: 2.0"),
        (["--trainer.precision", "half"], 'Parser key "trainer.precision": '),
        (["--data.block_size", "8"], 'Linked "data.block_size" must be given via "model.block_size".'),
        (["--seed_everything", "true"], "seed_everything (True) must be a number from 0 to 2**32 - 1"),
        (["--seed_everything", "-3"], "seed_everything (-3) must be a number from 0 to 2**32 - 1"),
    ],
)
def test_a_value_of_the_wrong_type_or_range_is_refused(run, args, message):
    assert refused(run, *TINY, *args).startswith(message)


@pytest.mark.parametrize("flag", ["--nope", "--trainer.max_step"])
def test_an_unknown_or_abbreviated_flag_is_named(run, flag):
    assert f"{flag} is no setting of fit; " in refused(run, *TINY, flag, "3")


def test_an_unknown_key_in_a_file_is_named(run):
    Path("my.yaml").write_text("model:\n  n_layr: 3\n", encoding="utf-8")
    assert "n_layr" in refused(run, "fit", "-c", "my.yaml")


def test_a_file_that_is_not_yaml_is_refused_in_one_line(run):
    Path("my.yaml").write_text("model: [1", encoding="utf-8")
    assert refused(run, "fit", "-c", "my.yaml").startswith("config (my.yaml) must be valid YAML, but: while")


@pytest.mark.parametrize(
    ("setting", "names"),
    [("architecture", ["gpt2", "modern"]), ("optimizer", ["adamw", "muon"]), ("lr_decay", ["cosine", "linear"])],
)
def test_an_unknown_name_is_refused_with_those_that_are_known(run, setting, names):
    message = refused(run, *TINY, f"--model.{setting}", "best")
    assert message.startswith(f'Parser key "model.{setting}": ')
    assert all(name in message for name in ["best", *names])
