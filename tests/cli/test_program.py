"""The program as a process: its help and version, its exit codes, and a reader that closes the pipe."""

import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import chargpt_lightning


def test_the_console_script_samples_until_the_reader_closes_the_pipe(tiny_run):
    """As in `chargpt predict | head -n 1`, which causes no message."""
    command = [shutil.which("chargpt", path=Path(sys.executable).parent), "predict", "--num_samples=50"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        process.stdout.close()
        messages = process.stderr.read()
        assert process.wait(timeout=120) == 1
    assert re.fullmatch("checkpoint: .*\n", messages)


def test_the_version_is_that_of_the_installed_package(printed):
    assert printed("--version") == f"chargpt_lightning {version('chargpt_lightning')}\n"
    assert chargpt_lightning.__version__ == version("chargpt_lightning")


@pytest.mark.parametrize("subcommand", [[], ["fit"]])
def test_help_calls_the_program_as_the_user_called_it(printed, subcommand):
    assert printed(*subcommand, "--help").startswith(f"usage: {printed.prog} ")
