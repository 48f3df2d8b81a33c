"""Recipes by name are the same as their files, wherever the command runs."""

import os
import shutil
import threading
from pathlib import Path

import pytest
import yaml
from support import ROOT
from support.command_line import TINY, refused, rows
from support.platforms import posix

from chargpt_lightning.cli.recipes import find_config, recipes


@pytest.fixture(autouse=True)
def no_configs_here():
    shutil.rmtree("configs")


def test_the_recipes_are_the_clones_configs():
    assert recipes() == {path.stem: path for path in (ROOT / "configs").glob("*.yaml")}


def test_an_installed_package_uses_its_own_configs(tmp_path, monkeypatch):
    package = tmp_path / "site" / "chargpt_lightning"
    for folder in (package / "configs", package.parent / "configs"):
        folder.mkdir(parents=True)
        (folder / "mine.yaml").touch()
    monkeypatch.setattr("chargpt_lightning.cli.recipes._PACKAGE", package)
    assert recipes() == {"mine": package / "configs" / "mine.yaml"}


@pytest.mark.parametrize("name", sorted(recipes()))
def test_a_recipe_by_name_is_its_file(run, name):
    file = run("fit", "--config", str(ROOT / "configs" / f"{name}.yaml"), "--print_config")
    assert file.code == 0
    for spelling in (["--config", name], ["-c", name], [f"--config={name}"], [f"-c={name}"]):
        assert run("fit", *spelling, "--print_config") == file


def test_flags_and_files_override_a_recipe(run):
    Path("my.yaml").write_text("model:\n  n_head: 2\n", encoding="utf-8")
    args = ["--n_layer=3", "--model.n_embd", "32", "-c", "shakespeare_char", "-c", "my.yaml", "--print_config"]
    config = yaml.safe_load(run("fit", *args).out)
    model = config["model"]
    assert (model["n_layer"], model["n_embd"], model["n_head"]) == (3, 32, 2)
    assert config["trainer"]["max_steps"] == 2000


def test_a_run_by_name_is_the_run_by_file(run):
    for config in ("shakespeare_char", str(ROOT / "configs/shakespeare_char.yaml")):
        assert run(*TINY, "--config", config).code == 0
    by_name, by_file = (Path(f"runs/shakespeare_char/version_{n}") for n in (0, 1))
    assert (by_name / "config.yaml").read_bytes() == (by_file / "config.yaml").read_bytes()
    assert [row["train/loss"] for row in rows(by_name)] == [row["train/loss"] for row in rows(by_file)]


def test_a_file_is_preferred_to_the_recipe_of_its_name(run):
    Path("shakespeare_char").mkdir()
    assert find_config("shakespeare_char") == str(ROOT / "configs/shakespeare_char.yaml")
    Path("shakespeare_char").rmdir()
    Path("shakespeare_char").write_text("model:\n  n_layer: 7\n", encoding="utf-8")
    assert yaml.safe_load(run("fit", "-c", "shakespeare_char", "--print_config").out)["model"]["n_layer"] == 7


def test_yaml_as_the_value_is_not_a_name(run):
    config = yaml.safe_load(run("fit", "--config", "{model: {n_layer: 7}}", "--print_config").out)
    assert config["model"]["n_layer"] == 7


@pytest.mark.parametrize("name", ["shakespeare", "none.yaml", "runs"])
@pytest.mark.parametrize("subcommand", ["fit", "validate", "predict"])
def test_a_name_that_is_no_file_and_no_recipe_is_refused(run, subcommand, name):
    Path("runs").mkdir()
    known = ", ".join(f"shakespeare_char{rung}" for rung in ("", "_best", "_better", "_fast", "_gpu"))
    expected = f"config ({name}) must be a file, or one of the recipes {known}"
    assert refused(run, subcommand, "--config", name) == expected


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        ("model:\n  n_layer: [1, 2\n", "be valid YAML, but: while parsing a flow sequence in"),
        ("model:\n\tn_layer: 1\n", "be valid YAML, but: while scanning for the next token found character"),
        ("", "contain names of settings with their values"),
        ("just words", "contain names of settings with their values"),
        ("- 1\n", "contain names of settings with their values"),
    ],
)
def test_a_file_without_settings_is_refused_by_name(run, tiny_run, content, rule):
    Path("my.yaml").write_text(content, encoding="utf-8")
    assert refused(run, "fit", "--config", "my.yaml").startswith(f"config (my.yaml) must {rule}")
    Path("my.yaml").rename(tiny_run / "config.yaml")
    message = refused(run, "fit", "--ckpt_path", "last")
    assert message.startswith(f"config (runs/version_0/config.yaml) must {rule}")


@posix
def test_a_pipe_of_settings_is_read_once(run):
    os.mkfifo("pipe")
    writer = threading.Thread(target=lambda: Path("pipe").write_text("trainer: {min_steps: 9}", encoding="utf-8"))
    writer.start()
    assert refused(run, *TINY, "--config", "pipe") == "trainer.min_steps (9) must be at most max_steps (5)"
    writer.join()


def test_help_lists_the_recipes(run):
    assert all(name in run("--help").out for name in recipes())


def test_the_recipe_that_an_error_recommends_sets_what_was_missing(run):
    message = refused(run, "fit", "--data.text", "verse.txt")
    recommended = message.partition("a recipe that sets it: ")[2].split()
    assert yaml.safe_load(run("fit", *recommended, "--print_config").out)["trainer"]["max_steps"] > 0


@pytest.mark.parametrize(
    "args", [["--config", "all.yaml", "fit"], ["fit", "--config=all.yaml"], ["-c=all.yaml", "fit"]]
)
def test_a_file_may_have_a_section_per_subcommand_as_lightnings(run, args):
    sections = {"fit": {"model": {"n_layer": 3}, "data": {"text": "verse.txt"}}, "predict": {"sample": {"top_k": 7}}}
    Path("all.yaml").write_text(yaml.safe_dump(sections), encoding="utf-8")
    shown = yaml.safe_load(run(*args, "--model.n_embd", "8", "--print_config").out)
    assert (shown["model"]["n_layer"], shown["model"]["n_embd"], shown["data"]["text"]) == (3, 8, "verse.txt")


def test_a_subcommand_without_a_section_keeps_its_defaults(run):
    Path("all.yaml").write_text("fit:\n  model: {n_layer: 3}\n", encoding="utf-8")
    shown = yaml.safe_load(run("--config", "all.yaml", "predict", "--print_config").out)
    assert shown["model"]["n_layer"] == 4
