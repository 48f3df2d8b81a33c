"""Kills a run a few times; `python tests/end_to_end/kills.py` kills it more often."""

import random
from pathlib import Path

import pytest
from end_to_end.kills import compare


@pytest.mark.slow
def test_a_killed_run_equals_the_run_that_was_never_killed():
    unreadable, differences, steps, _ = compare(Path(), kills=8, chance=random.Random(0))
    assert (unreadable, differences) == (0, [])
    assert steps > 10
