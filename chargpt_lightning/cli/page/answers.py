"""What the page answers: texts, probabilities, shades and curves."""

import html
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any

import gradio as gr
from torch import Tensor

from chargpt_lightning.cli.page.networks import load
from chargpt_lightning.cli.predict_command import predict_command
from chargpt_lightning.sampling.config import SampleConfig
from chargpt_lightning.sampling.generation import draw
from chargpt_lightning.sampling.text_methods import ranked
from chargpt_lightning.sampling.written import Written, record
from chargpt_lightning.utils import plotting
from chargpt_lightning.utils.errors import ConfigError, require_at_most
from chargpt_lightning.vocab import CharVocab, encode_prompt, shortened, visible

INTERVAL = 0.1  # least seconds between two views of a text that is being written
MAX_SHARE = 0.05  # of the time that is spent on these views
MAX_SHOWN = 3000  # characters of a prompt, or of a text to rate
MAX_BARS = 10
MAX_CHARACTERS = 2000  # to draw, because the page keeps the logits of each
MAX_BITS = 8  # of the strongest shade
NAMES = {" ": "space", "\n": "newline", "\t": "tab"}

Tokens = list[tuple[str, float | None]]  # characters, and how strongly each is shaded
Position = tuple[CharVocab, Tensor, str]  # the logits (V,) there, and the character that was drawn


@dataclass
class Shown(Written):
    """A text on the page; `marked` is the number of the character that was clicked, from 1, or 0."""

    marked: int = 0

    def tokens(self) -> Tokens:
        """Returns the end of the prompt as one token, then each character; the one that was clicked is marked."""
        prompt = "".join(map(visible, self.prompt[-MAX_SHOWN:]))
        shades = ((character, -0.5 if n == self.marked else 0.0) for n, character in enumerate(self.text, start=1))
        return [(prompt, None), *((visible(character), shade) for character, shade in shades)]


@contextmanager
def errors_shown() -> Iterator[None]:
    """Shows an error in the browser, escaped because Gradio renders messages as HTML."""
    try:
        yield
    except (ConfigError, OSError) as error:
        raise gr.Error(html.escape(str(error)), print_exception=False) from error


def config_of(prompt: str, *settings: Any) -> SampleConfig:
    """Returns the settings that the page's inputs have; an empty one has its default, top_k 0 and top_p 1 are off."""
    names = ("max_new_tokens", "temperature", "top_k", "top_p", "seed", "unknown")
    given: dict[str, Any] = {name: value for name, value in zip(names, settings, strict=True) if value is not None}
    require_at_most(MAX_CHARACTERS, max_new_tokens=given.get("max_new_tokens", 1))
    given |= {name: int(given[name]) for name in ("max_new_tokens", "top_k", "seed") if name in given}
    given |= {name: None for name, off in (("top_k", 0), ("top_p", 1)) if given.get(name) == off}
    return SampleConfig(prompt or "\n", 1, **given)


def write(name: str, *settings: Any) -> Iterator[tuple[Tokens, str, Shown]]:
    """Yields the text as it is drawn, with the command that writes the same."""
    with errors_shown():
        config, model = config_of(*settings), load(name)
        shown = Shown(model.vocab, model.vocab.decode(encode_prompt(config.prompt, model.vocab, config.unknown)))
        if skipped := len(config.prompt) - len(shown.prompt):
            gr.Warning(f"left out {skipped} characters of the prompt, which are not in the vocabulary")
        command = predict_command(name, replace(config, prompt=shown.prompt))
        next_view = monotonic()
        for _ in record(model.gpt, shown, config):
            if (before := monotonic()) > next_view:
                yield shown.tokens(), command, shown
                next_view = monotonic() + max(INTERVAL, (monotonic() - before) / MAX_SHARE)
        yield shown.tokens(), command, shown


@errors_shown()
def choose(shown: Shown | None, clicked: gr.SelectData) -> tuple[Tokens, Position]:
    """Marks the character that was clicked, and returns its position; of the prompt, the one after it."""
    index, before = clicked.index, max(clicked.index - 1, 0)
    if shown is None or before >= len(shown.text):
        raise ConfigError("the server does not have this text any more; generate it again")
    shown.marked = index
    return shown.tokens(), (shown.vocab, shown.logits[before], shown.text[before:index])


def after_prompt(name: str, prompt: str, shown: Shown | None) -> tuple[Position | None, Any]:
    """Returns the position after a prompt, without unknown characters, and the text with nothing marked any more."""
    tokens: Any = gr.skip()
    if shown and shown.marked:
        shown.marked = 0
        tokens = shown.tokens()
    try:
        model = load(name)
        known, _ = model.vocab.split_known(prompt)
        ids = encode_prompt(known or "\n", model.vocab, "refuse")
        ((_, logits),) = draw(model.gpt, ids, [0], SampleConfig(max_new_tokens=1))
    except (ConfigError, OSError) as error:
        gr.Warning(html.escape(str(error)))
        return None, tokens
    return (model.vocab, logits[0], ""), tokens


@errors_shown()
def why(position: Position | None, *settings: Any) -> list[dict[str, float]]:
    """Returns the probabilities at a position, before and after temperature, top_k and top_p."""
    if position is None:  # the network could not be loaded
        return [{}, {}]
    vocab, logits, drawn = position
    after = config_of(*settings)
    before = replace(after, temperature=1.0, top_k=None, top_p=None)
    return [_bars(ranked(logits, config, vocab), drawn) for config in (before, after)]


def _bars(probabilities: dict[str, float], drawn: str) -> dict[str, float]:
    """Returns the likeliest characters and the drawn one, as they are labeled."""
    likeliest = [character for character in [*probabilities][:MAX_BARS] if probabilities[character]]
    labels = {character: NAMES.get(character) or visible(character) for character in [*likeliest, drawn] if character}
    return {label + " (drawn)" * (character == drawn): probabilities[character] for character, label in labels.items()}


@errors_shown()
def rate(name: str, text: str) -> tuple[str, Tokens]:
    """Returns the figures of a text, and its first characters with their shades."""
    model = load(name)
    known, unknown = model.vocab.split_known(text)
    if len(known) < 2:
        raise ConfigError(f"text ({shortened(text)}) must contain at least two characters of the vocabulary")
    bits = model.surprisals(known) / math.log(2)
    mean = bits.double().mean()
    figures = f"{mean:.4f} bits per character, perplexity {mean.exp2():.4f}, over {len(bits):,} characters"
    if unknown:
        figures += f". Not in the vocabulary, left out: {shortened(''.join(dict.fromkeys(unknown)))}"
    shades = [None, *(bits[: MAX_SHOWN - 1] / MAX_BITS).clamp(max=1).tolist()]
    return figures, [(visible(character), shade) for character, shade in zip(known, shades, strict=False)]


def curves(runs: list[str], drawn: object) -> tuple[Any, Any]:
    """Plots runs, unless their files are as they were when `drawn` was returned; warns of a run without losses."""
    paths = [Path(run) for run in runs]
    files = [path / "metrics.csv" for path in paths]
    state = [(str(file), file.stat().st_mtime_ns if file.exists() else 0) for file in files]
    if state == drawn:
        return gr.skip(), gr.skip()
    try:
        return (plotting.draw(paths) if paths else None), state
    except ConfigError as error:
        gr.Warning(html.escape(str(error)))
        return None, state


def sample(checkpoint: Path, *settings: Any) -> str:
    """Returns a text that a checkpoint writes."""
    c = config_of(*settings)
    model = load(str(checkpoint))
    return model.sample(c.prompt, c.max_new_tokens, c.temperature, c.top_k, c.top_p, c.seed, c.unknown)
