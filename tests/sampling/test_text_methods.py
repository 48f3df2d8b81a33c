"""What a network can be asked: a continuation, what comes next, how surprising a text is."""

import math
from pathlib import Path

import lightning as L
import pytest
import torch
from torch import nn

from chargpt_lightning import CharDataModule, CharGPT
from chargpt_lightning.utils.errors import ConfigError


class Bigram(nn.Module):
    """Predicts from the last character alone: after a, b is three times as likely as a; after b, both are as likely."""

    logits = nn.Parameter(torch.tensor([[1.0, 3.0], [1.0, 1.0]]).log())

    def forward(self, ids):
        return self.logits[ids]

    def new_caches(self):
        return None

    def next_logits(self, ids, caches):
        return self(ids[:, -1:])[:, -1]


def bigram(block_size=2) -> CharGPT:
    model = CharGPT("ab", block_size=block_size, n_layer=1, n_head=1, n_embd=4)
    model.gpt = Bigram()
    return model


def test_next_probabilities_are_those_computed_by_hand_the_likeliest_first():
    model = bigram()
    assert model.next_probabilities("ba") == pytest.approx({"b": 0.75, "a": 0.25})
    assert [*model.next_probabilities("ba")] == ["b", "a"]
    assert model.next_probabilities("b") == pytest.approx({"a": 0.5, "b": 0.5})
    assert model.next_probabilities("a", temperature=0.5) == pytest.approx({"b": 0.9, "a": 0.1})
    assert model.next_probabilities("a", top_k=1) == model.next_probabilities("a", temperature=0) == {"b": 1, "a": 0}
    assert model.next_probabilities("a", top_p=0.7) == {"b": 1, "a": 0}


@pytest.mark.parametrize("block_size", [1, 2, 3, 64])
@pytest.mark.parametrize("repeated", [1, 40])
def test_surprisals_are_those_computed_by_hand(block_size, repeated):
    expected = torch.tensor([0.75, 0.5, 0.25, 0.75] + [0.5, 0.75, 0.5, 0.25, 0.75] * (repeated - 1)).log().neg()
    torch.testing.assert_close(bigram(block_size).surprisals("abaab" * repeated), expected)


@pytest.mark.parametrize("text", ["", "a"])
def test_a_text_of_at_most_one_character_has_no_surprisals(text):
    assert bigram().surprisals(text).shape == (0,)


def test_a_character_that_is_not_in_the_alphabet_is_refused():
    with pytest.raises(ConfigError, match=r"text \('c' at position 1\)"):
        bigram().surprisals("ac")
    with pytest.raises(ConfigError, match=r"prompt \('c' at position 0\)"):
        bigram().next_probabilities("c")


def test_the_mean_of_the_surprisals_is_the_loss_that_an_evaluation_finds():
    data = CharDataModule("verse.txt", batch_size=2, block_size=8)
    model = CharGPT(data.alphabet, block_size=8, n_layer=1, n_head=2, n_embd=8, dropout=0.5)
    quiet = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    (figures,) = L.Trainer(**quiet).validate(model.train(), data, verbose=False)
    text = Path("verse.txt").read_text(encoding="utf-8")
    val = text[len(text) * 9 // 10 :]
    whole = (len(val) - 1) // 8 * 8 + 1  # an evaluation leaves out the shorter window
    surprisals = model.surprisals(val[:whole])
    assert len(surprisals) == figures["val/characters"]
    assert surprisals.mean().item() == pytest.approx(figures["val/loss"], rel=1e-6)
    assert model.surprisals(val).mean().exp().item() == pytest.approx(math.exp(figures["val/loss"]), rel=0.1)
