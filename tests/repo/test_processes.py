"""A process that is forked for a test knows that test's environment, not that of the first test that forked."""

from pathlib import Path

import pytest
from support.platforms import posix
from support.processes import Python

SHOWN = "import os, sys, tempfile; print(tempfile.gettempdir(), os.getcwd(), os.environ['HOME'], *sys.argv, sep='\\n')"


@posix
@pytest.mark.parametrize("place", ["first", "second"])
def test_a_forked_process_has_the_environment_of_its_test(monkeypatch, place):
    directory = Path(place).absolute()
    directory.mkdir()
    for name in ("TMPDIR", "HOME"):
        monkeypatch.setenv(name, str(directory))
    monkeypatch.chdir(directory)
    shown = Python("-c", SHOWN, "argument").result().out.splitlines()
    assert shown == [str(directory)] * 3 + ["-c", "argument"]
