"""Every configuration that is shipped."""

import pytest
import yaml
from support import ROOT

CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))


def test_there_are_configs():
    recipes = {"shakespeare_char" + rung for rung in ("", "_fast", "_better", "_best", "_gpu")}
    assert {path.stem for path in CONFIGS} == recipes


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.name)
def test_a_config_trains(run, config):
    small = ["--trainer.max_steps", "1", "--data.eval_iters", "1", "--data.batch_size", "1", "--model.n_layer", "1"]
    here = ["--trainer.accelerator", "cpu", "--data.text", "plays", "--model.compile", "false"]
    result = run("fit", "--config", str(config), *small, *here)
    assert result.code == 0, result.err
    assert "step 1: " in result.err


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.name)
@pytest.mark.parametrize("subcommand", ["validate", "predict"])
def test_a_config_serves_every_subcommand(run, subcommand, config):
    assert run(subcommand, "--config", str(config), "--print_config").code == 0


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.name)
def test_the_decay_ends_with_the_training(config):
    settings = yaml.safe_load(config.read_text(encoding="utf-8"))
    assert settings["model"]["lr_decay_iters"] == settings["trainer"]["max_steps"]


def test_the_modules_defaults_are_the_cpu_recipe(run):
    config = yaml.safe_load((ROOT / "configs/shakespeare_char.yaml").read_text(encoding="utf-8"))
    defaults = yaml.safe_load(run("fit", "--print_config").out)
    for group in ("model", "data"):
        assert config[group].items() <= defaults[group].items()
