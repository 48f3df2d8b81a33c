"""What a shell completes, and what the program says of itself."""

import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from support.command_line import refused

import chargpt_lightning
from chargpt_lightning.__main__ import main

COMPLETE = """
source ./script
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
read -r _ _ _ _ function command <<< "$(complete -p chargpt)"
"$function" "$command" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


CALLED = {"chargpt": "/usr/bin/chargpt", "python -m chargpt_lightning": "/here/chargpt_lightning/__main__.py"}


@pytest.fixture(params=CALLED)
def said(request, monkeypatch, capfd):
    """What the program says on stdout, called as a command or as a module."""

    def said(*args: str) -> str:
        monkeypatch.setattr(sys, "argv", [CALLED[request.param], *args])
        with pytest.raises(SystemExit, match="0"):
            main()
        return capfd.readouterr().out

    said.prog = request.param
    return said


@pytest.fixture
def complete(said):
    """What bash makes of a command line that ends in these words."""
    Path("script").write_text(said("--print_completion=shtab-bash"), encoding="utf-8", newline="\n")

    def complete(*words: str) -> list[str]:
        command = [shutil.which("bash"), "-c", COMPLETE, "bash", "chargpt", *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.split()

    return complete


def test_bash_completes_subcommands_flags_and_their_values(complete):
    assert complete("f") == ["fit"]
    assert set(complete("")) == {"fit", "validate", "predict", "export", "plot"}
    assert complete("fit", "--trainer.max_st") == ["--trainer.max_steps"]
    assert complete("fit", "--model.architecture", "") == ["gpt2", "modern"]
    assert complete("fit", "--model.architecture", "modern", "--data.ba") == ["--data.batch_size"]
    assert complete("predict", "-c", "verse") == ["verse.txt"]
    assert all(flag[2].isalpha() for flag in complete("fit", "--"))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_no_script_takes_a_link_between_settings_for_a_flag(run, shell):
    script = run(f"--print_completion=shtab-{shell}")
    assert script.code == 0
    assert "trainer.max_steps" in script.out
    assert "-->" not in script.out


def test_without_shtab_a_line_says_what_to_install(run, monkeypatch):
    monkeypatch.setattr("chargpt_lightning.utils.errors.find_spec", lambda name: None)
    message = refused(run, "--print_completion=shtab-bash")
    assert message == "print_completion (shtab-bash) needs the package shtab: pip install shtab"


def test_a_shell_that_is_not_known_is_refused_beside_those_that_are(run):
    assert "'shtab-bash', 'shtab-zsh', 'shtab-fish'" in refused(run, "--print_completion=shtab-sh")


def test_the_version_is_that_of_the_installed_package(said):
    assert said("--version") == f"chargpt_lightning {version('chargpt_lightning')}\n"
    assert chargpt_lightning.__version__ == version("chargpt_lightning")


@pytest.mark.parametrize("subcommand", [[], ["fit"]])
def test_help_calls_the_program_what_the_user_called_it(said, subcommand):
    assert said(*subcommand, "--help").startswith(f"usage: {said.prog} ")
