"""Characters to ids and back."""

import pytest
import torch

from chargpt_lightning import CharVocab
from chargpt_lightning.utils.errors import ConfigError


def test_ids_follow_the_sorted_characters_of_the_text():
    vocab = CharVocab.of("hello")
    assert vocab.alphabet == "ehlo"
    assert vocab.encode("hole").tolist() == [1, 3, 2, 0]
    assert vocab.encode("hole").dtype == torch.int64


@pytest.mark.parametrize("text", ["To be,\nor not", "ÄÖÜ ß", "日本語のテキスト", "🙂🙃👍\u200d", "a\x00b\r\n"])
def test_decoding_gives_back_the_text(text):
    vocab = CharVocab.of(text)
    assert vocab.decode(vocab.encode(text)) == text


@pytest.mark.parametrize(
    ("text", "character", "position"), [("hellö", "'ö'", 4), ("!hello", "'!'", 0), ("he\udc80", r"'\udc80'", 2)]
)
def test_a_foreign_character_is_named_with_its_position(text, character, position):
    with pytest.raises(ConfigError) as error:
        CharVocab.of("hello").encode(text, name="prompt")
    assert str(error.value).startswith(f"prompt ({character} at position {position}) must use only the 4 characters")


@pytest.mark.parametrize("alphabet", ["", "aba", "a\ud800b", "\udfff"])
def test_an_alphabet_that_is_none_is_refused(alphabet):
    with pytest.raises(ConfigError, match="alphabet"):
        CharVocab(alphabet)


@pytest.mark.parametrize(
    ("characters", "dtype"), [(256, "uint8"), (257, "int16"), (32_768, "int16"), (32_769, "int32")]
)
def test_ids_of_a_chunk_have_the_smallest_type_and_the_same_value(characters, dtype):
    text = "".join(chr(0x10000 + n) for n in range(characters))
    vocab = CharVocab(text)
    chunk = vocab.encode_chunk(text[7:], start=7, name="data.text")
    assert chunk.dtype == vocab.dtype == dtype
    assert chunk.tolist() == vocab.encode(text)[7:].tolist()


def test_a_foreign_character_in_a_chunk_is_named_with_its_position_in_the_text():
    with pytest.raises(ConfigError, match=r"data.text \('ö' at position 104\) must use only the 4 characters"):
        CharVocab.of("hello").encode_chunk("hellö", start=100, name="data.text")


def test_a_text_is_parted_into_what_the_vocabulary_has_and_what_it_has_not():
    vocab = CharVocab.of("hello🙂")
    assert vocab.split_known("höllö 🙂\udc80") == ("hll🙂", "öö \udc80")
    assert vocab.split_known("") == ("", "")
