"""Runs on a data folder of nanoGPT's: the same as on its text, with the folder's alphabet and border."""

from pathlib import Path

import pytest
from support.command_line import TINY, VERSE, exact_rows
from support.nanogpt_folder import prepare


def test_a_run_on_a_folder_is_the_run_on_its_text(run, tiny_run):
    prepare("nano", VERSE * 20)
    assert run(*TINY, "--data.text", "nano").code == 0
    on_file, on_folder = tiny_run, Path("runs/version_1")
    assert exact_rows(on_folder) == exact_rows(on_file)
    figures = {
        run("validate", "--ckpt_path", f"{directory}/checkpoints/best.ckpt", "--data.text", text).out
        for directory in (on_file, on_folder)
        for text in ("verse.txt", "nano", "auto")
    }
    assert len(figures) == 1


def test_a_run_has_the_folders_border_and_alphabet(run):
    alphabet = "z" + "".join(sorted(set(VERSE), reverse=True))
    prepare("nano", VERSE * 20, alphabet, border=340)
    result = run(*TINY, "--data.text", "nano")
    assert "/nano, 1,340 characters, 22 different, SHA-256 " in result.err
    validated = run("validate")
    assert validated.out.splitlines()[-1] == "characters: 992"  # of 1000, in windows of 8 and the target after the last
    assert "changed" not in validated.err
    assert run("predict", "--sample.prompt", "z", "--num_samples=1").out.startswith("z")


@pytest.mark.parametrize("subcommand", ["fit", "validate"])
def test_another_border_in_the_same_text_is_reported(run, tiny_run, subcommand):
    prepare("nano", VERSE * 20, border=340)
    more = ["--trainer.max_steps", "6"] if subcommand == "fit" else []
    last = str(tiny_run / "checkpoints/last.ckpt")
    result = run(subcommand, "--ckpt_path", last, "--data.text", "nano", *more)
    assert result.code == 0
    assert "changed: the training split is 340 characters, was 1206\n" in result.err
