"""What a failing test prints first."""

import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT

BROKEN = """
import pytest

@pytest.mark.slow
@pytest.mark.parametrize("a", ["x y"])
def test_that_fails(a):
    left = 1
    assert left == 2, "they differ"

def test_of_many():
    raise ExceptionGroup("both fail", [ValueError("one"), ValueError("other")])
"""


@pytest.mark.parametrize("processes", ["0", "1"])
def test_a_failure_begins_with_what_broke_and_how_to_run_it_alone(monkeypatch, processes):
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))
    Path("test_broken.py").write_text(BROKEN, encoding="utf-8")
    Path("pytest.ini").write_text("[pytest]\nmarkers =\n  slow\n", encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-p", "support.failures", "-n", processes]
    printed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout
    _, _, failure = printed.partition(" test_that_fails[x y] ")
    first = failure[failure.index("\n\n") :].split("\n\n")[1]  # after the line that names the process
    assert first.splitlines() == [
        "E   AssertionError: they differ",
        "E   assert 1 == 2",
        f"At {Path('test_broken.py').absolute()}:8",
        "Alone: python -m pytest -n 0 -m slow 'test_broken.py::test_that_fails[x y]'",
    ]
    assert "Alone: python -m pytest -n 0 test_broken.py::test_of_many" in printed
    assert "FAILED test_broken.py::test_that_fails[x y] - AssertionError: they differ" in failure
