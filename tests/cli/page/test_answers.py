"""What the page answers, without a browser."""

import math
import os
from types import SimpleNamespace

import pytest
import torch
from support.platforms import needs

from chargpt_lightning import CharGPT, CharVocab
from chargpt_lightning.sampling.config import SampleConfig

gr = pytest.importorskip("gradio", reason="gradio, of an extra, is not installed", exc_type=ImportError)

from chargpt_lightning.cli.page import answers  # noqa: E402

SETTINGS = ("When", 9, 0.8, 200, 1, 1337, "refuse")


def last(texts):
    *_, (tokens, command, written) = texts
    return tokens, command, written


def test_the_text_is_the_first_sample_of_predict(tiny_run):
    tokens, command, written = last(answers.write("runs/version_0", *SETTINGS))
    text = CharGPT.load_from_checkpoint(tiny_run).sample("When", 9)
    assert "When" + written.text == text
    assert tokens == [("When", None), *((character.replace("\n", "↵\n"), 0.0) for character in text[4:])]
    assert command.endswith(
        "predict --ckpt_path runs/version_0 --trainer.accelerator cpu "
        "--sample.prompt=When --sample.num_samples=1 --sample.max_new_tokens=9"
    )


def test_a_clicked_character_is_marked_and_has_the_probabilities_it_was_drawn_with(tiny_run):
    network = CharGPT.load_from_checkpoint(tiny_run)
    _, _, written = last(answers.write("runs/version_0", *SETTINGS))
    for index in (0, 1, 4):  # the prompt, and two characters that the context of 8 reaches
        tokens, position = answers.choose(written, SimpleNamespace(index=index))
        assert written.tokens() == tokens  # also in later views, if the text is still written
        assert [shade for _, shade in tokens[1:]] == [-0.5 if n == index else 0.0 for n in range(1, 10)]
        drawn = written.text[index - 1] if index else ""
        before, after = answers.why(position, *SETTINGS)
        prefix = "When" + written.text[: max(index - 1, 0)]
        for bars, expected in (
            (before, network.next_probabilities(prefix)),
            (after, network.next_probabilities(prefix, 0.8)),
        ):
            shown = {label.removesuffix(" (drawn)"): probability for label, probability in bars.items()}
            names = {"space": " ", "newline": "\n"}
            assert {names.get(name, name) for name in shown} == {*[*expected][:10], *drawn}
            assert shown == pytest.approx({name: expected[names.get(name, name)] for name in shown}, abs=1e-6)
            assert [label for label in bars if label.endswith(" (drawn)")] == [
                f"{name} (drawn)" for name in shown if names.get(name, name) == drawn
            ]


def test_the_position_after_a_prompt_leaves_unknown_characters_out(tiny_run):
    network = CharGPT.load_from_checkpoint(tiny_run)
    for prompt, known in (("Wh😀en", "When"), ("", "\n"), ("😀", "\n")):
        (vocab, logits, drawn), tokens = answers.after_prompt("runs/version_0", prompt, None)
        assert tokens == gr.skip()
        assert (vocab.alphabet, drawn) == (network.vocab.alphabet, "")
        probabilities = dict(zip(vocab.alphabet, logits.softmax(-1).tolist(), strict=True))
        assert probabilities == pytest.approx(network.next_probabilities(known), abs=1e-6)


def test_after_another_prompt_no_character_is_marked(tiny_run):
    tokens, _, shown = last(answers.write("runs/version_0", *SETTINGS))
    answers.choose(shown, SimpleNamespace(index=2))
    _, unmarked = answers.after_prompt("runs/version_0", "In", shown)
    assert unmarked == shown.tokens() == tokens


def test_a_network_that_cannot_be_loaded_has_no_bars(monkeypatch):
    warnings = []
    monkeypatch.setattr(gr, "Warning", warnings.append)
    position, _ = answers.after_prompt("<b>", "In", None)
    assert warnings == ["ckpt_path (&lt;b&gt;) must be a checkpoint file, but there is no such file"]
    assert answers.why(position, *SETTINGS) == [{}, {}]


def test_bars_are_those_computed_by_hand():
    logits = torch.tensor([0.5, 0.25, 0.125, 0.125]).log()
    position = (CharVocab("a\n \x00"), logits, " ")
    before, after = answers.why(position, "", 1, 0.5, 2, 1, 0, "refuse")
    assert before == pytest.approx({"a": 0.5, "newline": 0.25, "space (drawn)": 0.125, r"\x00": 0.125})
    assert after == pytest.approx({"a": 0.8, "newline": 0.2, "space (drawn)": 0})


def test_the_figures_of_a_text_are_the_loss_of_its_known_characters(tiny_run):
    surprisals = CharGPT.load_from_checkpoint(tiny_run).surprisals("When shall\n")
    figures, tokens = answers.rate("runs/version_0", "Wh😀en 日shall\n")
    loss = surprisals.double().mean().item()
    assert figures == (
        f"{loss / math.log(2):.4f} bits per character, perplexity {math.exp(loss):.4f}, over 10 characters. "
        "Not in the vocabulary, left out: '😀日'"
    )
    assert "".join(text for text, _ in tokens) == "When shall↵\n"
    assert [shade for _, shade in tokens] == [None, *((surprisals / math.log(2) / 8).tolist())]


@pytest.mark.parametrize("text", ["", "W", "😀<b>"])
def test_a_text_without_two_known_characters_is_refused(tiny_run, text):
    with pytest.raises(gr.Error, match="must contain at least two characters of the vocabulary"):
        answers.rate("runs/version_0", text)


def test_errors_are_shown_as_text():
    with pytest.raises(gr.Error) as error, answers.errors_shown():
        raise answers.ConfigError("prompt (<b>) must be text")
    assert error.value.message == "prompt (&lt;b&gt;) must be text"
    assert not error.value.print_exception


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("When", 9, -1, 200, 1, 0, "refuse"), "temperature (-1) must be at least 0 and finite"),
        (("When", 0, 1, 200, 1, 0, "refuse"), "max_new_tokens (0) must be at least 1"),
        (("When", 2001, 1, 200, 1, 0, "refuse"), "max_new_tokens (2001) must be at most 2000"),
        (("When", 9, 1, 200, 1, 0, "x"), "unknown (x) must be one of refuse, skip"),
        (("When", 9, 1, -2, 1, 0, "refuse"), "top_k (-2) must be at least 1"),
        (("When", 9, 1, 0, 2, 0, "refuse"), "top_p (2) must be above 0 and at most 1"),
        (("<b>", 9, 1, 0, 1, 0, "refuse"), "prompt (&#x27;&lt;&#x27; at position 0)"),
    ],
)
def test_settings_that_cannot_work_are_named(tiny_run, settings, message):
    with pytest.raises(gr.Error) as error:
        last(answers.write("runs/version_0", *settings))
    assert error.value.message.startswith(message)


def test_skipped_characters_are_counted_in_a_warning(tiny_run, monkeypatch):
    warnings = []
    monkeypatch.setattr(gr, "Warning", warnings.append)
    _, _, written = last(answers.write("runs/version_0", "W😀<h>en", *SETTINGS[1:-1], "skip"))
    assert written.prompt == "When"
    assert warnings == ["left out 3 characters of the prompt, which are not in the vocabulary"]


@needs("matplotlib")
def test_curves_are_drawn_again_only_if_the_run_has_more(tiny_run):
    runs = [str(tiny_run)]
    figure, state = answers.curves(runs, None)
    assert len(figure.axes) == 2
    assert answers.curves(runs, state) == (gr.skip(), gr.skip())
    os.utime(tiny_run / "metrics.csv", ns=(0, 0))
    figure, later = answers.curves(runs, state)
    assert (len(figure.axes), later) == (2, [(str(tiny_run / "metrics.csv"), 0)])
    assert answers.curves([], later) == (None, [])


def test_a_run_that_cannot_be_drawn_is_warned_of_once(monkeypatch):
    warnings = []
    monkeypatch.setattr(gr, "Warning", warnings.append)
    figure, state = answers.curves(["<b>"], None)
    assert figure is None
    assert answers.curves(["<b>"], state) == (gr.skip(), gr.skip())
    (warning,) = warnings
    assert warning.startswith("run (&lt;b&gt;) must be a run&#x27;s directory with a metrics.csv, but: No such file")


def test_a_checkpoint_writes_with_the_settings_of_the_page(tiny_run):
    text = CharGPT.load_from_checkpoint(tiny_run).sample("\n", 9, 0.5, None, 0.9, 3)
    assert answers.sample(tiny_run / "checkpoints/best.ckpt", "", 9, 0.5, 0, 0.9, 3, "refuse") == text


def test_an_empty_field_has_its_default_and_a_fraction_is_rounded_down():
    assert answers.config_of("", None, None, None, None, None, None) == SampleConfig(num_samples=1)
    assert answers.config_of("a", 1.5, 0, 2.5, 1, 3.5, "skip") == SampleConfig("a", 1, 1, 0, 2, None, 3, "skip")


def test_a_surrogate_is_left_out_of_text_and_command(tiny_run, monkeypatch):
    monkeypatch.setattr(gr, "Warning", lambda message: None)
    tokens, command, _ = last(answers.write("runs/version_0", "When\ud83d", *SETTINGS[1:-1], "skip"))
    assert tokens[0] == ("When", None)
    assert "--sample.prompt=When " in command


@pytest.mark.parametrize("written", [None, answers.Shown(CharVocab("a"), "a")])
def test_a_text_that_the_server_has_lost_must_be_generated_again(written):
    with pytest.raises(gr.Error, match="generate it again"):
        answers.choose(written, SimpleNamespace(index=1))


def test_a_network_that_is_certain_has_an_infinite_perplexity(tiny_run, monkeypatch):
    network = CharGPT.load_from_checkpoint(tiny_run)
    monkeypatch.setattr(answers, "load", lambda name: network)
    network.gpt.lm_head.weight.data *= 1e6
    figures, _ = answers.rate("runs/version_0", "When shall")
    assert "perplexity inf" in figures
