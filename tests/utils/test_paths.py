"""`~` at the beginning of a path."""

from pathlib import Path

import pytest

from chargpt_lightning.utils.paths import expand_user


def test_a_tilde_is_the_home_directory():
    assert Path(expand_user("~/a.txt")) == Path.home() / "a.txt"


@pytest.mark.parametrize("path", ["a.txt", "./~/a.txt", "a~", "~nobody-of-that-name/a.txt", ""])
def test_other_paths_stay_as_they_are(path):
    assert expand_user(path) == path
