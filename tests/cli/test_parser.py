"""How flags and files of settings may be combined on the command line."""

from pathlib import Path

import pytest
import yaml
from support.command_line import refused

from chargpt_lightning.cli.parser import configs_first, join_texts
from chargpt_lightning.cli.recipes import recipes

STRINGS = [
    *("null", "123", "true", "1e3", "~", "a: b", "{a: b}", "[x].txt", "notes.txt", "FILE", "[1, 2]", "[a, null]"),
    *("*.txt", "a, b", "日本 🙂.txt", "books/*", "plays", "2020-01-01", "#c", "é"),
]


def test_flags_override_files_whatever_their_order(run):
    Path("my.yaml").write_text("model:\n  n_layer: 3\n  n_head: 2\n", encoding="utf-8")
    for args in (["-c", "my.yaml", "--model.n_layer", "5"], ["--model.n_layer", "5", "--config=my.yaml"]):
        config = yaml.safe_load(run("fit", *args, "--print_config").out)
        assert (config["model"]["n_layer"], config["model"]["n_head"]) == (5, 2)


def test_a_later_file_overrides_an_earlier_one(run):
    Path("my.yaml").write_text("model:\n  n_layer: 3\n", encoding="utf-8")
    both = run("fit", "-c", "configs/shakespeare_char.yaml", "-c", "my.yaml", "--print_config").out
    config = yaml.safe_load(both)
    assert (config["model"]["n_layer"], config["model"]["n_embd"]) == (3, 128)


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--data.text", "a", "b c", "-c", "d"], ['--data.text=["a", "b c"]', "-c", "d"]),
        (["--n", "1", "--data.text", "日.txt", "[🙂]"], ["--n", "1", '--data.text=["日.txt", "[🙂]"]']),
        (["--data.text", "a", "b", "--data.text", "c", "d"], ['--data.text=["a", "b"]', '--data.text=["c", "d"]']),
        (["--data.text", "a", "--data.text", "c", "d"], ["--data.text", "a", '--data.text=["c", "d"]']),
        (["--data.text", "[a]"], ["--data.text", "[a]"]),
        (["--data.text=a", "b"], ["--data.text=a", "b"]),
        (["--data.text"], ["--data.text"]),
        (["--data.text", "--n", "a"], ["--data.text", "--n", "a"]),
    ],
)
def test_several_arguments_of_data_text_become_a_list(args, expected):
    assert join_texts(["fit", *args]) == ["fit", *expected]


@pytest.mark.parametrize("value", STRINGS)
def test_a_string_that_looks_like_yaml_stays_a_string(run, value):
    Path("my.yaml").write_text(
        yaml.safe_dump({"data": {"text": value}}, allow_unicode=True, default_style='"'), encoding="utf-8"
    )
    for flags in (["--data.text", value], [f"--data.text={value}"], ["--config", "my.yaml"]):
        printed = run("fit", *flags, "--print_config").out
        assert yaml.safe_load(printed)["data"]["text"] == value


@pytest.mark.parametrize("value", STRINGS)
def test_strings_that_look_like_yaml_stay_strings_in_a_list(run, value):
    Path("my.yaml").write_text(yaml.safe_dump({"data": {"text": [value, "b"]}}, default_style='"'), encoding="utf-8")
    for flags in (["--data.text", value, "b"], ["--config", "my.yaml"]):
        printed = run("fit", *flags, "--print_config").out
        assert yaml.safe_load(printed)["data"]["text"] == [value, "b"]


def test_a_list_of_numbers_is_refused_in_one_line(run):
    Path("my.yaml").write_text("data:\n  text: [1, 2]\n", encoding="utf-8")
    assert refused(run, "fit", "-c", "my.yaml").startswith('Parser key "data.text": ')


def test_files_come_first_and_a_recipe_becomes_its_file():
    args = ["fit", "--model.n_layer", "3", "-c", "my.yaml", "--config=shakespeare_char"]
    recipe = f"--config={recipes()['shakespeare_char']}"
    Path("my.yaml").touch()
    assert configs_first(args) == ["fit", "--config=my.yaml", recipe, "--model.n_layer", "3"]
    assert configs_first([]) == []


def test_a_config_flag_needs_a_value(run):
    assert refused(run, "fit", "--config") == "argument -c/--config: expected one argument"
