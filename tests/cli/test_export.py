"""`export` is refused without losing or leaving files; the formats are tested beside checkpoints/."""

from pathlib import Path

import pytest
from support.command_line import FAST, TINY, refused
from support.platforms import needs

from chargpt_lightning.cli import export

NANOGPT = ["export", "--format", "nanogpt", "--out"]


@needs("transformers")
@pytest.mark.parametrize("format", ["nanogpt", "hf"])
def test_the_modern_network_is_refused(run, format):
    assert run(*TINY, *FAST).code == 0
    message = f"architecture (modern) must be gpt2 to export, because {format} supports no other; "
    assert refused(run, "export", "--format", format, "--out", "out") == message + "--format onnx supports both"


def test_existing_files_are_not_overwritten(run, tiny_run):
    Path("out").mkdir()
    assert run(*NANOGPT, "out").code == 0  # empty, so nothing is lost
    assert refused(run, *NANOGPT, "out") == "out (out) must be a new or empty directory"
    assert refused(run, *NANOGPT, "verse.txt") == "out (verse.txt) must be a new or empty directory"
    assert run(*NANOGPT, "deep/er").code == 0
    assert {path.name for path in Path("deep/er").iterdir()} == {"ckpt.pt", "meta.pkl"}


@needs("transformers")
def test_the_working_directory_can_be_the_target(run, tiny_run, monkeypatch):
    best = str((tiny_run / "checkpoints/best.ckpt").absolute())
    Path("empty").mkdir()
    monkeypatch.chdir("empty")
    assert run("export", "--format", "hf", "--out", ".", "--ckpt_path", best).code == 0
    assert run("predict", "--ckpt_path", ".", "--num_samples=1", "--max_new_tokens=3").code == 0


def test_a_failed_export_leaves_no_files(run, tiny_run, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device", "ckpt.pt")

    monkeypatch.setattr(export, "write_nanogpt", full)
    before = set(Path().rglob("*"))
    result = run(*NANOGPT, "out")
    assert (result.code, result.err.splitlines()[-1]) == (1, "error: [Errno 28] No space left on device: 'ckpt.pt'")
    assert set(Path().rglob("*")) == before


def test_best_and_last_are_those_of_the_newest_run(run, tiny_run):
    for name in ("best", "last"):
        result = run(*NANOGPT, name, "--ckpt_path", name)
        assert f"checkpoint: runs/version_0/checkpoints/{name}.ckpt" in result.err
        assert f"exported to {name}, in the format nanogpt" in result.err
        assert result.out == ""


def test_nanogpts_out_dir_is_where_the_runs_are(run, tiny_run):
    tiny_run.parent.rename("out-verse")
    result = run(*NANOGPT, "out", "--out_dir=out-verse")
    assert "checkpoint: out-verse/version_0/checkpoints/best.ckpt" in result.err
    again = run(*NANOGPT, "again", "--out_dir", "out")
    assert "checkpoint: out/ckpt.pt" in again.err


@needs("transformers")
def test_from_nanogpt_to_hugging_face(run, tiny_run):
    assert run(*NANOGPT, "nanogpt").code == 0
    assert run("export", "--format", "hf", "--out", "hf", "--ckpt_path", "nanogpt/ckpt.pt").code == 0
    exact = {
        run("validate", "--ckpt_path", path, "--data.text", "verse.txt").out
        for path in ("best", "nanogpt/ckpt.pt", "hf")
    }
    assert len(exact) == 1


HF = ["--format", "hf", "--out", "x"]


@needs("transformers")
@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        ([], 2, "the following arguments are required: format, out"),
        (HF[:2], 2, "the following arguments are required: out"),
        ([*HF, "--format", "pt"], 2, "Expected a typing.Literal['nanogpt', 'hf', 'onnx']. Got value: pt"),
        ([*HF, "--ckpt", "x"], 2, "--ckpt is no setting of export; did you mean --ckpt_path?"),
        (
            [*HF, "--ckpt_path", "no.ckpt"],
            1,
            "ckpt_path (no.ckpt) must be a checkpoint file, but there is no such file",
        ),
        (
            HF,
            1,
            "trainer.default_root_dir (runs) must contain a run with a checkpoint; `fit` creates one; "
            "to use one elsewhere: --ckpt_path RUN",
        ),
    ],
)
def test_an_export_that_cannot_work_is_refused_in_one_line(run, args, code, message):
    assert message in refused(run, "export", *args)
    assert run("export", *args).code == code


def test_help_lists_it_with_the_other_commands(run):
    assert "export" in run("--help").out
    assert "--format {nanogpt,hf,onnx}" in run("export", "--help").out
