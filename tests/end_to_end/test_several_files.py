"""A run on a text of several files: however they are named, it trains on their text and finds it again."""

import json
import subprocess
from pathlib import Path

import pytest
import torch
import yaml
from support.books import SHA256
from support.command_line import ONE_MORE, TINY, exact_rows, refused


def test_a_text_of_several_files_is_named_by_its_first_in_errors(run):
    Path("a.txt").write_text("a", encoding="utf-8")
    Path("b.txt").write_text("b", encoding="utf-8")
    assert refused(run, *TINY, "--data.text", "a.txt", "b.txt", "a.txt") == (
        "data.text (a.txt and 2 more) must be longer: its train split has 2 characters, "
        "and block_size (8) needs at least 9"
    )


@pytest.mark.parametrize("form", ["list", "pattern", "arguments", "yaml"])
def test_files_may_be_named_in_four_ways_and_are_found_again(run, books, tmp_path, monkeypatch, form):
    Path("my.yaml").write_text(yaml.safe_dump({"data": {"text": books}}), encoding="utf-8")
    flags = {
        "list": ["--data.text", json.dumps(books)],
        "pattern": ["--data.text", "books/**/*.txt"],
        "arguments": ["--data.text", *books],
        "yaml": ["--config", "my.yaml"],
    }[form]
    args = [arg for arg in TINY if arg not in ("--data.text", "verse.txt")]
    result = run(*args, *flags, "--data.batch_size", "3")
    assert result.code == 0, result.err
    here = Path.cwd()
    short = str(here / "books/**/*.txt") if form == "pattern" else f"{here}/books/1.txt and 2 more"
    assert f"text: {short}, 3 files, 1,340 characters, 21 different, SHA-256 {SHA256}\n" in result.err
    name = str(here / "books/**/*.txt") if form == "pattern" else [str(here / path) for path in books]
    checkpoint = torch.load("runs/version_0/checkpoints/last.ckpt", weights_only=True)
    assert checkpoint["CharDataModule"]["text"] == name
    assert yaml.safe_load(Path("runs/version_0/config.yaml").read_text(encoding="utf-8"))["data"]["text"] == name
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    last = str(here / "runs/version_0/checkpoints/last.ckpt")
    for text in ([], ["--data.text", "[auto]"], ["--data.text", str(here / "verse.txt")]):
        result = run("validate", "--trainer.accelerator", "cpu", "--ckpt_path", last, *text)
        assert result.code == 0, result.err
        assert "characters: 128\n" in result.out
    monkeypatch.chdir(here)
    result = run(*ONE_MORE)
    assert result.code == 0, result.err
    assert "changed: data.text" not in result.err


def test_several_files_train_as_one_file_with_their_text(run, books, tiny_run):
    assert run(*TINY, "--data.text", *books).code == 0
    assert exact_rows(Path("runs/version_1")) == exact_rows(tiny_run)


@pytest.mark.parametrize("change", ["edited", "added", "gone"])
def test_a_pattern_that_now_matches_another_text_is_refused(run, books, change):
    assert run(*TINY, "--data.text", "books/**/*.txt").code == 0
    if change == "gone":
        Path("books/1.txt").unlink()
    else:
        Path("books/2.txt" if change == "edited" else "books/late/4.txt").write_text("When", encoding="utf-8")
    pattern = Path("books/**/*.txt").absolute()
    message = refused(run, *ONE_MORE)
    assert message.startswith(f"data.text ({pattern}) must have the SHA-256 {SHA256}, but has ")
    assert refused(run, "validate") == message


def test_the_order_of_the_files_is_part_of_the_text(run, books):
    assert run(*TINY, "--data.text", *books).code == 0
    assert " must have the SHA-256 " in refused(run, *ONE_MORE, "--data.text", *books[::-1])


def test_a_pattern_that_a_shell_expands_is_a_list(run, books):
    command = ["bash", "-c", "printf '%s\n' --data.text books/?.txt verse.txt --print_config"]
    expanded = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.split()
    printed = run("fit", *expanded).out
    assert yaml.safe_load(printed)["data"]["text"] == ["books/1.txt", "books/2.txt", "verse.txt"]
