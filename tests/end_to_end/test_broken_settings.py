"""Five hundred broken configurations: none trains, none ends in a traceback, none leaves a file."""

import string
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.command_line import TINY, files

from chargpt_lightning import CharGPT
from chargpt_lightning.cli.nanogpt_flags import RENAMED

NANOGPTS = {setting: name for name, setting in RENAMED.items()}
SIZES = ["model.n_layer", "model.n_head", "model.n_embd", "model.block_size", "data.batch_size", "data.eval_iters"]
ONE_OR_MORE = [*SIZES, "model.n_gram", "model.lr_decay_iters", "trainer.accumulate_grad_batches"]
COUNTS = ["model.warmup_iters", "data.num_workers"]
RATIOS = ["model.dropout", "model.n_gram_dropout", "model.beta1", "model.beta2"]
FLOATS = [*RATIOS, "model.learning_rate", "model.min_lr", "model.weight_decay", "sample.temperature"]
INTS = [*ONE_OR_MORE, *COUNTS, "trainer.max_steps"]
BOOLS = ["model.bias", "model.compile", "model.decay_lr"]
MEANINGFUL = {"y", "n", "yes", "no", "on", "off", "true", "false", "null", "none", "nan", "inf", "infinity"}

words = st.text(string.ascii_letters, min_size=1, max_size=8).filter(lambda word: word.lower() not in MEANINGFUL)
no_numbers = words | st.lists(st.integers(), min_size=1) | st.dictionaries(words, st.integers(), min_size=1)
negative = st.integers(max_value=-2, min_value=-(10**9))
fractions = st.floats(allow_nan=False, allow_infinity=False).filter(lambda number: number != int(number))
no_shares = fractions.filter(lambda number: not 0 < number < 1)
above_one = st.floats(min_value=1, allow_nan=False) | st.just(float("nan"))


def setting(names: list[str], values: st.SearchStrategy) -> st.SearchStrategy:
    return st.tuples(st.sampled_from(names), values)


broken = st.one_of(
    setting(INTS, no_numbers | fractions | st.booleans()),
    setting(FLOATS, no_numbers | st.booleans()),
    setting(BOOLS, words | st.integers() | fractions | st.lists(st.integers())),
    setting([*ONE_OR_MORE, "trainer.val_check_interval"], negative),
    setting(ONE_OR_MORE, st.just(0)),
    setting([*COUNTS, "trainer.max_steps", "trainer.log_every_n_steps", "trainer.devices"], negative),
    setting([*FLOATS, "trainer.gradient_clip_val"], st.floats(max_value=0, exclude_max=True, allow_nan=False)),
    setting(RATIOS, above_one),
    setting(["model.learning_rate", "sample.temperature", "model.weight_decay"], st.just(float("inf"))),
    setting(["model.n_head"], st.sampled_from([3, 5, 7, 16])),
    setting(["sample.top_k", "sample.num_samples", "sample.max_new_tokens"], st.integers(max_value=0)),
    setting(["sample.top_p"], st.floats(max_value=0, allow_nan=False) | st.floats(min_value=1, exclude_min=True)),
    setting(["seed_everything"], negative | st.integers(min_value=2**32) | words),
    setting(["data.text"], words.map("no such/{}".format)),
    setting(["trainer.accelerator", "trainer.strategy", "trainer.precision", "trainer.max_time"], words),
    setting(["trainer.callbacks", "trainer.logger", "trainer.plugins"], words),
    setting(["trainer.limit_val_batches", "trainer.limit_train_batches"], negative | no_shares),
    setting(["trainer.max_steps"], st.just(-1)),
    st.tuples(st.sampled_from(["model", "data", "trainer", "sample"]), words).map(lambda pair: (".".join(pair), 1)),
    st.tuples(words.map("x{}".format), st.integers()),
)


def write(name: str, value: object, spelling: str) -> list[str]:
    """The arguments that give the setting: a flag of this package or of nanoGPT, or a file."""
    if spelling == "file":
        *group, last = name.split(".")
        content = yaml.safe_dump({group[0]: {last: value}} if group else {last: value})
        Path("broken.yaml").write_text(content, encoding="utf-8")
        return ["--config", "broken.yaml"]
    text = value if isinstance(value, str) else yaml.safe_dump(value, default_flow_style=True).splitlines()[0]
    return [f"--{NANOGPTS.get(name, name) if spelling == 'nanogpt' else name}={text}"]


@pytest.mark.slow
@settings(
    max_examples=500,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(setting=broken, spelling=st.sampled_from(["flag", "nanogpt", "file"]))
def test_a_broken_configuration_is_refused_in_one_line(run, monkeypatch, setting, spelling):
    monkeypatch.setattr(CharGPT, "training_step", lambda *args: pytest.fail("it trains"))
    Path("broken.yaml").touch()
    before = files()
    name = setting[0]
    kept = [
        arg for flag, value in zip(TINY[1::2], TINY[2::2], strict=True) for arg in (flag, value) if flag[2:] != name
    ]
    result = run("fit", *kept, *write(*setting, spelling))
    assert result.code in (1, 2)
    lines = [line for line in result.err.splitlines() if not line.startswith(("text: ", "network: ", "run: "))]
    assert len(lines) == 1, result.err
    assert lines[0].startswith("error: ")
    assert files() == before
