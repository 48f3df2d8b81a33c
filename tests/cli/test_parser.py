"""How flags and files of settings may be combined on the command line."""

import re
import sys
from pathlib import Path

import pytest
import yaml
from support.command_line import refused

from chargpt_lightning.cli.cli import CharCLI
from chargpt_lightning.cli.help import TOOLS
from chargpt_lightning.cli.parser import HANDLERS, configs_first, join_texts
from chargpt_lightning.cli.recipes import recipes
from chargpt_lightning.utils.paths import expand_user

STRINGS = [
    *("null", "123", "true", "1e3", "~", "a: b", "{a: b}", "[x].txt", "notes.txt", "FILE", "[1, 2]", "[a, null]"),
    *("*.txt", "a, b", "日本 🙂.txt", "books/*", "plays", "2020-01-01", "#c", "é"),
]


def test_the_subcommands_that_need_no_trainer_are_those_that_help_lists():
    assert list(HANDLERS) == list(TOOLS)


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
        assert yaml.safe_load(printed)["data"]["text"] == expand_user(value)


@pytest.mark.parametrize("value", STRINGS)
def test_strings_that_look_like_yaml_stay_strings_in_a_list(run, value):
    Path("my.yaml").write_text(yaml.safe_dump({"data": {"text": [value, "b"]}}, default_style='"'), encoding="utf-8")
    for flags in (["--data.text", value, "b"], ["--config", "my.yaml"]):
        printed = run("fit", *flags, "--print_config").out
        assert yaml.safe_load(printed)["data"]["text"] == [expand_user(value), "b"]


def test_a_list_of_numbers_is_refused_in_one_line(run):
    Path("my.yaml").write_text("data:\n  text: [1, 2]\n", encoding="utf-8")
    assert refused(run, "fit", "-c", "my.yaml").startswith('Parser key "data.text": ')


def test_null_is_refused_for_every_setting_that_does_not_accept_it(run, monkeypatch):
    kept = []
    monkeypatch.setattr(CharCLI, "parse_arguments", lambda cli, parser, args: kept.append(parser) or sys.exit())
    run("fit")
    (parser,) = kept
    settings = parser.parse_args(["fit"])
    named = [(name, value) for name, value in settings.items() if name.startswith("fit.")]
    assert len(named) > 70, "these are all settings"
    accepted = {name for name, value in named if value is None}
    accepted |= {"fit.sample.top_k", "fit.trainer.num_sanity_val_steps", "fit.trainer.enable_model_summary"}
    for name, value in named:
        settings[name] = None
        if name in accepted:
            parser.validate(settings)
        else:
            with pytest.raises(TypeError, match=re.escape(name.removeprefix("fit."))):
                parser.validate(settings)
        settings[name] = value


@pytest.mark.parametrize(
    "settings",
    [
        {"model": {"n_layer": None}},
        {"data": {"text": None}},
        {"data": {"text": ["verse.txt", None]}},
        {"seed_everything": None},
        {"trainer": {"max_steps": None}},
        {"trainer": {"default_root_dir": None}},
        {"trainer": {"callbacks": [{"class_path": "EarlyStopping", "init_args": {"monitor": None}}]}},
        {"trainer": {"limit_val_batches": 2**63}},
        {"model": {"n_embd": -(2**63) - 1}},
    ],
    ids=str,
)
def test_a_file_with_null_or_a_number_beyond_64_bits_is_refused_by_name(run, settings):
    Path("my.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    ((group, rest),) = settings.items()
    name = f"{group}.{next(iter(rest))}" if isinstance(rest, dict) else group
    assert name in refused(run, "fit", "--config", "my.yaml")


def test_files_come_first_and_a_recipe_becomes_its_file():
    args = ["fit", "--model.n_layer", "3", "-c", "my.yaml", "--config=shakespeare_char"]
    recipe = f"--config={recipes()['shakespeare_char']}"
    Path("my.yaml").write_text("model: {}", encoding="utf-8")
    assert configs_first(args) == ["fit", "--config=my.yaml", recipe, "--model.n_layer", "3"]
    assert configs_first([]) == []


def test_a_config_flag_needs_a_value(run):
    assert refused(run, "fit", "--config") == "argument -c/--config: expected one argument"
