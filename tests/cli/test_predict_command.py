"""The `predict` command of the page writes the same text, whatever the prompt."""

import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from support.command_line import TINY, VERSE

from chargpt_lightning import CharGPT
from chargpt_lightning.cli.predict_command import LONGEST_PROMPT, predict_command
from chargpt_lightning.sampling.config import SampleConfig

PROMPTS = [
    "\n", "When", " in ", "null", "12", "1e3", "[a]", "{a: b}", "- a", "-a", "--a", "'", '"', "'\"", "~", "#", "a\nb",
    "\n\n", "$HOME", "a=b", "@a", "!a", "*", "FILE:a", "\0", "\ta", "é", "日", "%", "\\n", "true", "a" * LONGEST_PROMPT,
    "a" * (LONGEST_PROMPT + 1), "a, b", "a: b", "&a", "|", ">", "?", "0x1", "",
]  # fmt: skip


@pytest.fixture
def network(run) -> CharGPT:
    """A network whose alphabet has all characters of the prompts."""
    Path("verse.txt").write_text(VERSE + "".join(PROMPTS) * 20, encoding="utf-8", newline="\n")
    assert run(*TINY).code == 0
    return CharGPT.load_from_checkpoint("runs/version_0")


def words(run_args: str) -> list[str]:
    """The words after the program's name, without the comment."""
    return shlex.split(run_args, comments=True)[shlex.split(run_args, comments=True).index("predict") :]


@pytest.mark.slow
def test_the_command_writes_the_sample_of_the_settings(run, network):
    for prompt in filter(None, PROMPTS):
        config = SampleConfig(prompt, 1, 12, temperature=1.5, top_k=None, seed=3)
        command = predict_command("runs/version_0", config)
        if "FILE:prompt.txt" in command:
            Path("prompt.txt").write_text(prompt, encoding="utf-8", newline="\n")
        result = run(*words(command))
        assert (result.code, result.out) == (0, network.sample(prompt, 12, 1.5, None, seed=3) + "\n"), repr(prompt)


def test_the_command_is_short(monkeypatch):
    monkeypatch.setattr("sys.argv", ["chargpt"])
    config = SampleConfig("ROMEO:\n", 1)
    expected = (
        "predict --ckpt_path 'my run' --trainer.accelerator cpu '--sample.prompt=ROMEO:\n' --sample.num_samples=1"
    )
    assert predict_command("my run", config).endswith(expected)
    others = predict_command("run", replace(config, prompt="\n", top_k=None, top_p=0.9, unknown="skip"))
    assert others.endswith("--sample.num_samples=1 --sample.top_k=null --sample.top_p=0.9 --sample.unknown=skip")


@pytest.mark.parametrize("prompt", ["a" * (LONGEST_PROMPT + 1), "FILE:a", "a\0"])
def test_a_prompt_that_no_command_line_can_contain_is_read_from_a_file(prompt):
    note, command = predict_command("run", SampleConfig(prompt, 1)).splitlines()
    assert note == "# after saving the prompt as prompt.txt:"
    assert "--sample.prompt=FILE:prompt.txt" in command
