"""Which strings UTF-8 can encode."""

import os

import pytest

from chargpt_lightning.utils.utf8 import is_encodable


@pytest.mark.parametrize("text", ["", "ROMEO:\n\0", "Straße 🎭", "\ud7ff\ue000\U0010ffff"])
def test_text_is_encodable(text):
    assert is_encodable(text)
    text.encode()


@pytest.mark.parametrize("text", ["\ud800", "ab\udfff", os.fsdecode(b"run-\xff")])
def test_surrogates_are_not(text):
    assert not is_encodable(text)
    with pytest.raises(UnicodeEncodeError):
        text.encode()
