"""Which directories are runs: other programs leave files of the same names."""

import os
from pathlib import Path

import pytest
from support.command_line import TINY, refused

from chargpt_lightning.utils.errors import ConfigError
from chargpt_lightning.utils.run_dir import is_run, newest_checkpoint

WANDB_CONFIG = """\
_wandb:
    value:
        cli_version: 0.31.0
        python_version: 3.11.9
        t:
            "1": [1, 9, 41, 106]
            "4": 3.11.9
learning_rate:
    value: 0.001
"""
FILES = "runs/version_0/wandb/run-20261125_093000-ab12cd34/files"
OTHERS = [
    f"{FILES}/config.yaml",
    "runs/version_0/.hydra/config.yaml",
    "runs/.hydra/config.yaml",
    "runs/outputs/2026-11-25/09-30-00/.hydra/config.yaml",
    "runs/mlruns/0/0a1b2c/artifacts/config.yaml",
    "runs/config.yaml",
]


def left_by_another(path: str) -> None:
    """Writes a newer config.yaml than the run's, with what stands beside it."""
    config = Path(path)
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(WANDB_CONFIG, encoding="utf-8")
    os.utime(config, (2**32, 2**32))
    for name in ("output.log", "requirements.txt", "wandb-metadata.json", "wandb-summary.json", "hydra.yaml"):
        (config.parent / name).touch()


def test_after_an_online_run_of_wandb_every_command_finds_the_run(run, tiny_run):
    left_by_another(f"{FILES}/config.yaml")
    for command in (
        ["predict", "--num_samples=1", "--max_new_tokens=3"],
        ["validate"],
        ["export", "--format", "nanogpt", "--out", "exported"],
        ["fit", "--trainer.max_steps", "6", "--ckpt_path", "last"],
    ):
        result = run(*command)
        assert (result.code, "checkpoint: runs/version_0/checkpoints/" in result.err) == (0, True), result.err
    assert [path.name for path in Path("runs").glob("version_*")] == ["version_0"]


@pytest.mark.parametrize("path", OTHERS)
def test_a_config_yaml_of_another_program_is_no_run(path):
    ours = Path("runs/deep/er/version_0")
    (ours / "checkpoints").mkdir(parents=True)
    for name in ("config.yaml", "checkpoints/best.ckpt"):
        (ours / name).touch()
    left_by_another(path)
    assert newest_checkpoint(Path("runs"), "last") == ours / "checkpoints/best.ckpt"


def test_where_another_programs_files_are_the_only_ones_there_is_no_run(run):
    left_by_another("runs/wandb/run-20261125_093000-ab12cd34/files/config.yaml")
    message = "trainer.default_root_dir (runs) must contain a run with a checkpoint; `fit` creates one"
    assert refused(run, "predict") == message


def test_nanogpts_out_dir_may_have_wandbs_files(run, tiny_run):
    assert run("export", "--format", "nanogpt", "--out", "out").code == 0
    left_by_another("out/wandb/run-20261125_093000-ab12cd34/files/config.yaml")
    assert "checkpoint: out/ckpt.pt\n" in run("predict", "--out_dir=out", "--num_samples=1").err


@pytest.mark.parametrize("beside", [".lock", "metrics.csv", "checkpoints"])
def test_a_run_that_has_just_started_is_one(beside):
    earlier, started = Path("runs/version_0"), Path("runs/deep/er/version_0")
    (earlier / "checkpoints").mkdir(parents=True)
    started.mkdir(parents=True)
    for path in (earlier / "config.yaml", earlier / "checkpoints/best.ckpt", started / "config.yaml"):
        path.touch()
    os.utime(earlier / "config.yaml", (1, 1))
    assert not is_run(started)
    (started / beside).touch()
    with pytest.raises(ConfigError) as error:
        newest_checkpoint(Path("runs"), "best")
    assert str(error.value) == (
        f"ckpt_path (best) must be in the newest run, but {started} has no checkpoint yet; "
        f"to use an earlier one: --ckpt_path {earlier / 'checkpoints' / 'best.ckpt'}"
    )


def test_a_checkpoint_below_wandbs_files_belongs_to_no_run(run, tiny_run):
    left_by_another(f"{FILES}/config.yaml")
    copied = Path(FILES, "last.ckpt")
    copied.write_bytes((tiny_run / "checkpoints/last.ckpt").read_bytes())
    left_by_another(f"{FILES}/version_0/config.yaml")  # where a requeued run would be
    result = run("fit", "--ckpt_path", str(copied), *TINY[1:], "--trainer.max_steps", "6")
    assert result.code == 0, result.err
    assert "resuming in a new directory at step 5" in result.err
