"""A text while it is drawn, with the logits of each character."""

import torch

from chargpt_lightning import GPT, CharVocab, GPTConfig
from chargpt_lightning.sampling.config import SampleConfig
from chargpt_lightning.sampling.generation import continue_prompt
from chargpt_lightning.sampling.next_character import next_ids
from chargpt_lightning.sampling.written import Written, record

VOCAB = CharVocab("\nabcd")
CONFIG = SampleConfig(max_new_tokens=12, temperature=1.5, top_k=4)


def network() -> GPT:
    torch.manual_seed(0)
    return GPT(GPTConfig(vocab_size=5, block_size=8, n_layer=2, n_head=2, n_embd=8)).eval()


def test_the_text_grows_to_the_first_sample():
    gpt, written = network(), Written(VOCAB, "ab")
    lengths = []
    for _ in record(gpt, written, CONFIG):
        assert len(written.text) == len(written.logits)
        lengths.append(len(written.text))
    assert lengths == [*range(1, 13)]
    (sample,) = continue_prompt(gpt, VOCAB.encode("ab"), [0], CONFIG)
    assert written.prompt + written.text == VOCAB.decode(sample)


def test_each_character_can_be_drawn_again_from_its_logits():
    written = Written(VOCAB, "ab")
    list(record(network(), written, CONFIG))
    uniforms = CONFIG.uniforms(0)
    ids = [next_ids(logits[None], CONFIG, uniforms[n : n + 1]) for n, logits in enumerate(written.logits)]
    assert VOCAB.decode(torch.cat(ids)) == written.text
