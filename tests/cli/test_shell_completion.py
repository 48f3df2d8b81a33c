"""`--print_completion`: bash completes with its script, and the scripts of other shells are plausible."""

import shutil
import subprocess
from pathlib import Path

import pytest
from support.command_line import refused
from support.platforms import needs

COMPLETE = """
source ./script
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
read -r _ _ _ _ function command <<< "$(complete -p chargpt)"
"$function" "$command" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def complete(printed):
    """The completions of bash for a command line that ends in these words."""
    Path("script").write_text(printed("--print_completion=shtab-bash"), encoding="utf-8", newline="\n")

    def complete(*words: str) -> list[str]:
        command = [shutil.which("bash"), "-c", COMPLETE, "bash", "chargpt", *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.split()

    return complete


@needs("shtab")
def test_bash_completes_subcommands_flags_and_their_values(complete):
    assert complete("f") == ["fit"]
    assert set(complete("")) == {"fit", "validate", "predict", "export", "plot", "play"}
    assert complete("fit", "--trainer.max_st") == ["--trainer.max_steps"]
    assert complete("fit", "--model.architecture", "") == ["gpt2", "modern"]
    assert complete("fit", "--model.architecture", "modern", "--data.ba") == ["--data.batch_size"]
    assert complete("predict", "-c", "verse") == ["verse.txt"]
    assert all(flag[2].isalpha() for flag in complete("fit", "--"))


@needs("shtab")
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_no_script_completes_links_between_settings(run, shell):
    script = run(f"--print_completion=shtab-{shell}")
    assert script.code == 0
    assert "trainer.max_steps" in script.out
    assert "-->" not in script.out


def test_without_shtab_the_error_names_the_package(run, monkeypatch):
    monkeypatch.setattr("chargpt_lightning.utils.errors.find_spec", lambda name: None)
    message = refused(run, "--print_completion=shtab-bash")
    assert message == "print_completion (shtab-bash) needs the package shtab: pip install shtab"


def test_an_unknown_shell_is_refused_with_a_list_of_the_known(run):
    assert "'shtab-bash', 'shtab-zsh', 'shtab-fish'" in refused(run, "--print_completion=shtab-sh")
