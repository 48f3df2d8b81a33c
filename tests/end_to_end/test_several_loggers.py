"""TensorBoard and W&B beside metrics.csv in the same run."""

from pathlib import Path

import pytest

pytest.importorskip("wandb")

import wandb
from support.command_line import TINY
from support.other_loggers import LOGGED, in_csv, in_tensorboard, in_wandb, samples_in_tensorboard, wandb_records

BOTH = """
trainer:
  logger:
    - class_path: TensorBoard
    - class_path: Wandb
"""

pytestmark = pytest.mark.usefixtures("wandb_offline")


def test_both_are_set_up_in_yaml_and_show_the_figures_of_metrics_csv(run):
    Path("both.yaml").write_text(BOTH, encoding="utf-8")
    assert run(*TINY, "--config", "both.yaml").code == 0
    wandb.finish()
    assert in_tensorboard() == in_wandb() == in_csv()
    (settings,) = [record.run for record in wandb_records() if record.HasField("run")]
    assert settings.display_name == "runs/version_0"


def test_a_run_that_crashed_and_was_resumed_is_one_run_to_both(run, during):
    Path("both.yaml").write_text(BOTH, encoding="utf-8")
    assert run(*TINY).code == 0

    def crash():
        raise RuntimeError("power cut")

    during(3, happens=crash)
    with pytest.raises(RuntimeError, match="power cut"):
        run(*TINY, "--config", "both.yaml")
    wandb.finish()
    assert run("fit", "--ckpt_path", "last").code == 0
    wandb.finish()
    again = Path("runs/version_1")
    exact = LOGGED - {"tokens_per_second", "mfu"}
    unbroken = {name: in_csv()[name] for name in exact}
    assert {name: in_csv(again)[name] for name in exact} == unbroken
    twice = {name: in_tensorboard(again)[name] for name in exact}  # once before the crash, once resumed
    assert {name: sorted(set(points)) for name, points in twice.items()} == unbroken
    assert list(samples_in_tensorboard(again)) == [0, 2, 4, 5]
    assert len({record.run.run_id for record in wandb_records(again) if record.HasField("run")}) == 1
