"""Texts, prompts and paths in any language, on machines whose locale cannot represent them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from support.command_line import TINY, refused

from chargpt_lightning import CharGPT

TEXTS = {
    "japanese": "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。\n" * 40,
    "emoji": "👩‍👩‍👧‍👦 👨🏿‍🚀👍🏽 🇯🇵🇫🇷 ❤️‍🔥🏴󠁧󠁢󠁳󠁣󠁴󠁿\n" * 40,
    "arabic and hebrew": "في البدء خلق الله السماوات والأرض\nבְּרֵאשִׁית בָּרָא אֱלֹהִים\n" * 30,  # noqa: RUF001
}
PROMPTS = {"japanese": "猫である", "emoji": "👍🏽👩‍👩‍👧‍👦🇯🇵", "arabic and hebrew": "خلق בָּרָא"}
ASCII_ONLY = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
MACHINES = {"japanese": ASCII_ONLY, "emoji": {"PYTHONIOENCODING": "cp1252"}, "arabic and hebrew": {"LC_ALL": "C"}}
FEW = ["--sample.num_samples", "2", "--sample.max_new_tokens", "40"]


def piped(*args: str, **environment: str) -> tuple[int, str, str]:
    """Runs the command line in a process of its own whose outputs are pipes; gives exit code, stdout and stderr."""
    command = [sys.executable, "-m", "chargpt_lightning", *args]
    process = subprocess.run(command, env=os.environ | environment, capture_output=True, timeout=120, check=False)
    return process.returncode, process.stdout.decode("utf-8"), process.stderr.decode("utf-8")


@pytest.fixture(params=TEXTS)
def language(request, run):
    """A language whose text a run in runs/ was trained on."""
    Path("verse.txt").write_text(TEXTS[request.param], encoding="utf-8")
    result = run(*TINY)
    assert result.code == 0, result.err
    return request.param


@pytest.mark.parametrize(
    "language",
    ["japanese", *(pytest.param(name, marks=pytest.mark.slow) for name in ("emoji", "arabic and hebrew"))],
    indirect=True,
)
def test_a_network_of_a_language_is_trained_validated_and_sampled_on_any_machine(run, language):
    text, prompt = TEXTS[language], PROMPTS[language]
    best = Path("runs/version_0/checkpoints/best.ckpt")
    alphabet = torch.load(best, weights_only=True)["hyper_parameters"]["alphabet"]
    assert alphabet == "".join(sorted(set(text)))
    validated = run("validate", "--trainer.accelerator", "cpu")
    assert yaml.safe_load(validated.out)["characters"] == (len(text) - int(len(text) * 0.9) - 1) // 8 * 8
    code, out, err = piped("predict", "--sample.prompt", prompt, *FEW, **MACHINES[language])
    assert code == 0, err
    first, second = out.removesuffix("\n").split("\n---------------\n")
    assert first == CharGPT.load_from_checkpoint(best).sample(prompt, 40)
    for sample in (first, second):
        assert sample.startswith(prompt)
        assert len(sample) == len(prompt) + 40
        assert set(sample) <= set(text)


def test_a_prompt_is_the_same_from_a_flag_and_from_a_file(run, language):
    prompt = PROMPTS[language]
    name = f"{prompt}.txt"
    Path(name).write_text(prompt, encoding="utf-8")
    from_flag = run("predict", "--sample.prompt", prompt, *FEW)
    from_file = run("predict", "--sample.prompt", f"FILE:{name}", *FEW)
    assert (from_flag.code, from_file.code) == (0, 0)
    assert from_flag.out.startswith(prompt)
    assert from_flag.out == from_file.out


def test_paths_and_prompts_survive_config_and_checkpoint(run):
    """JSON escapes an emoji as two surrogates, which YAML does not read as one character."""
    text, prompt = "吾輩は猫🐈‍⬛.txt", "猫👍🏽"
    Path(text).write_text(TEXTS["japanese"] + TEXTS["emoji"], encoding="utf-8")
    assert run(*TINY, "--data.text", text, "--sample.prompt", prompt).code == 0
    config = yaml.safe_load(Path("runs/version_0/config.yaml").read_text(encoding="utf-8"))
    assert (config["data"]["text"], config["sample"]["prompt"]) == (str(Path(text).absolute()), prompt)
    assert run("validate", "--trainer.accelerator", "cpu").code == 0
    assert run("predict", "--config", "runs/version_0/config.yaml", *FEW).out.startswith(prompt)


@pytest.mark.slow
def test_paths_and_prompts_survive_config_and_checkpoint_in_the_c_locale():
    text, prompt = "吾輩.txt", "猫👍🏽"
    Path(text).write_text(TEXTS["japanese"] + TEXTS["emoji"], encoding="utf-8")
    code, _, err = piped(*TINY, "--data.text", text, "verse.txt", "--sample.prompt", prompt, LC_ALL="C")
    assert code == 0, err
    assert f"text: {Path(text).absolute()} and 1 more, 2 files, " in err
    code, _, err = piped("fit", "--ckpt_path", "last", "--trainer.max_steps", "6", LC_ALL="C")
    assert code == 0, err
    assert "changed: trainer.max_steps is 6, was 5\n" in err
    assert err.count("changed: ") == 1
    saved = yaml.safe_load(Path("runs/version_0/config.yaml").read_text(encoding="utf-8"))
    assert (saved["data"]["text"][0], saved["sample"]["prompt"]) == (str(Path(text).absolute()), prompt)


@pytest.mark.slow
def test_messages_are_utf8_whatever_the_encoding_of_the_pipes():
    Path("吾輩.txt").write_text(TEXTS["japanese"], encoding="utf-8")
    code, _, err = piped(*TINY, "--data.text", "吾輩.txt", PYTHONIOENCODING="cp1252")
    assert code == 0, err
    assert f"text: {Path('吾輩.txt').absolute()}, " in err
    code, _, err = piped("predict", "--sample.prompt", "犬", PYTHONIOENCODING="cp1252")
    assert code == 1
    assert "error: prompt ('犬' at position 0) must use only the 28 characters of the vocabulary: '\\n。あい" in err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--data.text", "犬.txt"], "data.text (犬.txt) must be a readable file, but: 'ascii' codec can't"),
        (["-c", "犬.yaml"], "config (犬.yaml) must be a file, or one of the recipes"),
        (["-c", "dog.yaml"], "file names and settings files must be in the locale's encoding (ANSI_X3.4-1968), but: "),
    ],
)
def test_a_name_that_the_locale_cannot_represent_is_refused_in_one_line(args, message):
    Path("dog.yaml").write_text("sample:\n  prompt: 犬", encoding="utf-8")
    code, out, err = piped(*TINY, *args, **ASCII_ONLY)
    assert (code, out) == (1, "")
    assert err.startswith(f"error: {message}")
    assert err.count("\n") == 1
    assert not Path("runs").exists()


def test_a_file_of_settings_that_is_not_utf8_is_refused_in_one_line(run):
    Path("my.yaml").write_bytes(b"sample:\n  prompt: caf\xe9")
    assert refused(run, "fit", "-c", "my.yaml").startswith(
        "file names and settings files must be in the locale's encoding (UTF-8), but: 'utf-8' codec can't decode byte"
    )


def test_unknown_characters_of_a_prompt_are_skipped_with_a_message(run, tiny_run):
    skip = ["--sample.unknown", "skip", *FEW]
    plain = run("predict", "--sample.prompt", "When a", *FEW)
    skipped = run("predict", "--sample.prompt", "éWöheön🙂 a", *skip)
    assert skipped.out == plain.out
    checkpoint, message = skipped.err.splitlines()
    assert checkpoint.startswith("checkpoint: ")
    assert message == "prompt: skipped 'éö🙂' (4 in all): not in the vocabulary"
    assert "skipped" not in run("predict", "--sample.prompt", "When a", *skip).err
    Path("prompt.txt").write_text("éWhen a", encoding="utf-8")
    assert run("predict", "--sample.prompt", "FILE:prompt.txt", *skip).out == plain.out
