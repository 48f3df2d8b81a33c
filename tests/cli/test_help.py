"""What the program answers before it imports torch, and that this is what the parser accepts."""

import re
import subprocess
import sys

import pytest
from support.command_line import refused

from chargpt_lightning.cli.cli import CharCLI
from chargpt_lightning.cli.help import SUBCOMMANDS
from chargpt_lightning.cli.recipes import recipes

WITHOUT_TORCH = """
import sys
sys.modules |= dict.fromkeys(("torch", "lightning", "jsonargparse", "numpy"))  # importing one fails
from chargpt_lightning.__main__ import main
for args in (["--help"], ["-h"], ["--help", "fit"], ["--version"], [], ["fitt"], ["fitt", "--help"]):
    try:
        main(args)
    except SystemExit as exit:
        print("exit code", exit.code)
"""


def test_help_version_and_a_wrong_subcommand_need_no_torch():
    process = subprocess.run([sys.executable, "-c", WITHOUT_TORCH], capture_output=True, text=True, timeout=60)
    assert process.returncode == 0, process.stderr
    codes = [int(code) for code in re.findall(r"^exit code (\d)$", process.stdout, re.MULTILINE)]
    assert codes == [0, 0, 0, 0, 2, 2, 0]


@pytest.fixture
def parser(run, monkeypatch):
    """The parser of the whole program."""
    kept = []
    monkeypatch.setattr(CharCLI, "parse_arguments", lambda cli, parser, args: kept.append(parser) or sys.exit())
    run("--print_config")
    return kept[0]


def test_the_help_lists_the_subcommands_and_flags_that_the_parser_accepts(run, parser):
    shown = run("--help").out
    actions = {option: action for action in parser._actions for option in (*action.option_strings, action.dest)}
    assert {name: made.description for name, made in actions["subcommand"].choices.items()} == SUBCOMMANDS
    assert re.findall(r"^    (\w+) {2,}[A-Z]", shown, re.MULTILINE) == list(SUBCOMMANDS)
    flags = re.findall(r"^  (?:-h, )?(--\w+)", shown, re.MULTILINE)
    assert len(flags) == 3
    assert actions.keys() >= set(flags)
    assert ", ".join(recipes()) in shown


def test_a_subcommand_is_needed(run):
    names = "fit, validate, predict, export, plot, play"
    message = f"must be one of {names}; `chargpt --help` describes them"
    assert refused(run) == f"subcommand (none) {message}"
    assert refused(run, "test", "--trainer.max_steps", "5") == f"subcommand (test) {message}"
    assert refused(run, "predikt") == f"subcommand (predikt) must be one of {names}; did you mean predict?"


def test_a_flag_instead_of_a_subcommand_is_refused_by_the_parser(run):
    message = "the settings must be followed by what to do with them: fit, validate, predict, export, plot, play"
    assert refused(run, "--config", "shakespeare_char") == message
