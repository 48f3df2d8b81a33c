"""Two runs at once, a crash in the middle of a write, and texts with strange characters or code in them."""

import pickle
from pathlib import Path

import pytest
import torch
from support.command_line import TINY, exact_rows
from support.hostile import Payload
from support.processes import MODULE, Python


def test_two_runs_at_once_do_not_touch_each_others_files(run):
    run(*TINY)
    both = [Python(*MODULE, *TINY) for _ in range(2)]
    assert [process.result().code for process in both] == [0, 0]
    first, *others = (exact_rows(path) for path in Path("runs").glob("version_*"))
    assert others == [first, first]


def test_files_that_a_crash_left_half_written_are_not_used(run, tiny_run):
    (tiny_run / "checkpoints/last.ckpt.part").write_bytes(b"half of a check")
    with (tiny_run / "metrics.csv").open("a", encoding="utf-8") as file:
        file.write("0.1,5,3.04,,,,\n0.1,6,3.")
    assert run("fit", "--ckpt_path", "last", "--trainer.max_steps", "8").code == 0
    run(*TINY, "--trainer.max_steps", "5")
    run("fit", "--ckpt_path", "runs/version_1/checkpoints/last.ckpt", "--trainer.max_steps", "8")
    assert exact_rows(Path("runs/version_0")) == exact_rows(Path("runs/version_1"))
    assert {path.name for path in (tiny_run / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}


@pytest.mark.parametrize("protocol", [0, 5])
def test_a_pickle_given_as_the_text_is_not_unpickled(run, protocol):
    Path("verse.txt").write_bytes(pickle.dumps([Payload()] * 200, protocol))
    result = run(*TINY)
    assert result.code == (0 if protocol == 0 else 1), "protocol 0 is ASCII, so it is a text"
    assert not Path("executed").exists()


@pytest.mark.parametrize(
    ("content", "characters"),
    [
        (b"\x00a\nb" * 100, "\x00\nab"),
        (b"\xef\xbb\xbfab\n" * 1 + b"ab\n" * 100, "\nab"),
        (b"ab\r\nc\rd\n" * 50, "\nabcd"),
        ("".join(map(chr, range(0x4E00, 0x4E00 + 10_000))).encode(), "".join(map(chr, range(0x4E00, 0x4E00 + 10_000)))),
    ],
    ids=["NUL", "byte order mark", "CRLF and CR", "10,000 characters"],
)
def test_texts_with_strange_characters_train_validate_and_sample(run, content, characters):
    Path("verse.txt").write_bytes(content)
    assert run(*TINY).code == 0
    checkpoint = torch.load("runs/version_0/checkpoints/last.ckpt", weights_only=True)
    assert checkpoint["hyper_parameters"]["alphabet"] == characters
    assert run("fit", "--ckpt_path", "last", "--trainer.max_steps", "6").code == 0
    assert run("validate").code == 0
    sampled = run("predict", f"--start={characters[-1]}", "--num_samples=1", "--max_new_tokens=5")
    assert (sampled.code, len(sampled.out)) == (0, 7)
