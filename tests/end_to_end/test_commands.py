"""`fit`, `validate` and `predict` one after the other: what each leaves for the next."""

from pathlib import Path

import pytest
from support.command_line import TINY, files


def test_fit_writes_config_metrics_and_both_checkpoints(tiny_run):
    left = {path.name for path in tiny_run.iterdir()} - {".lock"}  # deleted on Windows
    assert left == {"checkpoints", "config.yaml", "metrics.csv"}
    assert {path.name for path in (tiny_run / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}


def test_a_checkpoint_is_sampled_and_validated_without_its_run_and_its_text(run, tiny_run, tmp_path, monkeypatch):
    checkpoint = str((tiny_run / "checkpoints/best.ckpt").absolute())
    Path("verse.txt").rename("moved.txt")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    result = run("predict", "--ckpt_path", checkpoint, "--sample.num_samples", "1", "--sample.prompt", "When ")
    assert result.code == 0
    assert result.out.startswith("When ")
    text = str(tmp_path / "work" / "moved.txt")
    assert run("validate", "--ckpt_path", checkpoint, "--data.text", text).code == 0
    assert files() == set()


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "64-true"])
def test_other_precisions_train_validate_and_sample(run, precision):
    assert run(*TINY, "--trainer.precision", precision).code == 0
    assert run("validate", "--trainer.accelerator", "cpu").code == 0
    assert run("predict", "--num_samples=1").code == 0
