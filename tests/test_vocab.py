"""Characters to ids and back, and prompts with unknown characters."""

import re
from pathlib import Path

import pytest
import torch
from support.command_line import TINY, VERSE, files, refused
from support.platforms import needs

from chargpt_lightning import CharDataModule, CharGPT, CharVocab
from chargpt_lightning.utils.errors import ConfigError
from chargpt_lightning.vocab import encode_prompt, visible

ALPHABET = "".join(sorted(set(VERSE)))


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
def test_an_unknown_character_is_named_with_its_position(text, character, position):
    with pytest.raises(ConfigError) as error:
        CharVocab.of("hello").encode(text, name="prompt")
    assert str(error.value).startswith(f"prompt ({character} at position {position}) must use only the 4 characters")


@pytest.mark.parametrize("alphabet", ["", "aba", "a\ud800b", "\udfff"])
def test_an_alphabet_that_is_empty_or_has_duplicates_or_surrogates_is_refused(alphabet):
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


def test_an_unknown_character_in_a_chunk_is_named_with_its_position_in_the_text():
    with pytest.raises(ConfigError, match=r"data.text \('ö' at position 104\) must use only the 4 characters"):
        CharVocab.of("hello").encode_chunk("hellö", start=100, name="data.text")


def test_known_and_unknown_characters_are_separated():
    vocab = CharVocab.of("hello🙂")
    assert vocab.split_known("höllö 🙂\udc80") == ("hll🙂", "öö \udc80")
    assert vocab.split_known("") == ("", "")


def refused_by_the_data_module(run, prompt: str) -> str:
    with pytest.raises(ConfigError) as error:
        CharDataModule(alphabet=ALPHABET, prompt=prompt).predict_dataloader()
    return str(error.value)


def refused_by_sample(run, prompt: str) -> str:
    with pytest.raises(ConfigError) as error:
        CharGPT(ALPHABET, block_size=8, n_layer=1, n_head=1, n_embd=8).sample(prompt)
    return str(error.value)


def refused_by_predict(run, prompt: str) -> str:
    assert run(*TINY).code == 0
    return refused(run, "predict", "--sample.prompt", prompt)


def refused_by_fit_with_samples(run, prompt: str) -> str:
    before = files()
    result = run(*TINY, "--trainer.logger", "TensorBoard", "--sample.prompt", prompt)
    assert result.code == 1
    assert files() == before, "the run began"
    return result.err.splitlines()[-1].removeprefix("error: ")


@needs("tensorboard")
@pytest.mark.parametrize(
    "refusal", [refused_by_the_data_module, refused_by_sample, refused_by_predict, refused_by_fit_with_samples]
)
def test_an_unknown_character_of_a_prompt_is_refused_by_all_that_use_prompts(run, refusal):
    message = refusal(run, "Wön")
    assert message.startswith("prompt ('ö' at position 1) must use only the 21 characters of the vocabulary: ")
    assert message.endswith("; `--sample.unknown skip` leaves unknown characters out")


def test_unknown_characters_of_a_prompt_can_be_skipped(caplog):
    vocab = CharVocab("abc")
    assert encode_prompt("xcaxb", vocab, "skip").tolist() == [2, 0, 1]
    assert [record.getMessage() for record in caplog.records] == [
        "prompt: skipped 'x' (2 in all): not in the vocabulary"
    ]
    assert encode_prompt("cab", vocab, "skip").tolist() == [2, 0, 1]
    assert len(caplog.records) == 1


def test_a_prompt_of_unknown_characters_only_is_refused():
    with pytest.raises(ConfigError) as error:
        encode_prompt("éö" * 300, CharVocab("abc"), "skip")
    assert str(error.value).startswith("prompt ('éöéö")
    assert str(error.value).endswith(") must contain at least one character of the vocabulary: 'abc'")
    assert len(str(error.value)) < 300, "a long prompt is shortened"


def test_unknown_characters_are_either_refused_or_skipped():
    with pytest.raises(ConfigError, match=r"unknown \(drop\) must be one of refuse, skip"):
        encode_prompt("a", CharVocab("abc"), "drop")


def test_the_default_prompt_is_replaced_where_the_vocabulary_has_no_newline(caplog):
    assert encode_prompt("\n", CharVocab("ACGT"), "refuse").tolist() == [0]
    assert [record.message for record in caplog.records] == ["prompt: 'A', because the vocabulary has no newline"]
    assert encode_prompt("\n", CharVocab("A\n"), "refuse").tolist() == [1]


def test_skipping_is_offered_only_if_a_character_remains():
    for prompt, is_offered in (("xA", True), ("x", False), ("\n\n", False)):
        with pytest.raises(ConfigError) as error:
            encode_prompt(prompt, CharVocab("ACGT"), "refuse")
        assert ("--sample.unknown skip" in str(error.value)) == is_offered


def test_a_text_without_newlines_is_trained_on_and_sampled_from(run):
    Path("genome.txt").write_text("ACGT" * 500, encoding="utf-8")
    trained = run(*TINY, "--data.text", "genome.txt")
    assert trained.code == 0, trained.err
    (command,) = re.findall("sample from it: chargpt (.*)", trained.err)
    sampled = run(*command.split(), "--sample.num_samples", "1", "--sample.max_new_tokens", "5")
    assert sampled.code == 0, sampled.err
    assert "prompt: 'A', because the vocabulary has no newline\n" in sampled.err
    assert re.fullmatch("A[ACGT]{5}\n", sampled.out)
    assert len(CharGPT.load_from_checkpoint(command.split()[-1]).sample(max_new_tokens=5)) == 6


@pytest.mark.parametrize(
    ("character", "shown"),
    [
        ("a", "a"),
        (" ", " "),
        ("\n", "↵\n"),
        ("\t", r"\t"),
        ("\0", r"\x00"),
        ("\u3000", r"\u3000"),
        ("日", "日"),
        ("\\", "\\"),
    ],
)
def test_what_cannot_be_seen_of_a_character_is_shown(character, shown):
    assert visible(character) == shown
