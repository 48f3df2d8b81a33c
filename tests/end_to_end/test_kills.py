"""The fault harness, with few kills; `python benchmarks/kills.py` has more."""

import random
import runpy
from pathlib import Path

import pytest
from support import ROOT


@pytest.mark.slow
def test_a_killed_run_is_the_run_that_was_never_killed():
    compare = runpy.run_path(str(ROOT / "benchmarks/kills.py"))["compare"]
    unreadable, differences, steps, _ = compare(Path(), kills=8, chance=random.Random(0))
    assert (unreadable, differences) == (0, [])
    assert steps > 100
