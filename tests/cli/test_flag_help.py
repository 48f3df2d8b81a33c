"""The help of a subcommand: this package's settings first, then what most runs need of Lightning's Trainer."""

import re

import pytest

from chargpt_lightning.cli.flag_help import TEXTS


@pytest.fixture
def help_of(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")

    def help_of(*args: str) -> str:
        result = run(*args)
        assert (result.code, result.err) == (0, "")
        return result.out

    return help_of


@pytest.mark.parametrize("subcommand", ["fit", "validate", "predict"])
def test_this_packages_settings_come_first(help_of, subcommand):
    text = help_of(subcommand, "--help")
    places = [text.index(flag) for flag in ("--help_trainer", "--model.n_layer", "--data.text", "--sample.prompt")]
    assert [*places, text.index("--trainer.accelerator")] == sorted([*places, text.index("--trainer.accelerator")])
    for wrong in ("hpc", "registry", "Set to True", "known subclasses", "-->", "--trainer.barebones", "epochs"):
        assert wrong not in text
    assert text.count("\n") < 200


def test_each_text_is_of_a_flag_and_shown(help_of):
    text = help_of("fit", "--help")
    for flag, meaning in TEXTS.items():
        start = re.escape(" ".join(meaning.split()[:3]))
        assert re.search(rf"--{re.escape(flag)}[ ,].*\n? +{start}", text), flag


def test_all_of_lightnings_flags_are_shown_on_request_and_only_then(help_of):
    complete = help_of("fit", "--help_trainer")
    assert "--trainer.barebones" in complete
    assert complete.index("--data.text") < complete.index("--trainer.barebones")
    assert "--trainer.barebones" not in help_of("fit", "--help")
