"""W&B gets the figures of metrics.csv; a resumed run continues its run there, a branch starts another."""

import json
from pathlib import Path

import pytest

pytest.importorskip("wandb")

import wandb
from lightning.pytorch.loggers import WandbLogger
from support.command_line import TINY
from support.other_loggers import (
    RUN,
    in_csv,
    in_wandb,
    wandb_records,
)

from chargpt_lightning.loggers.wandb import Wandb, _wandb_id

pytestmark = pytest.mark.usefixtures("wandb_offline")


def test_wandb_has_every_figure_and_every_sample(run):
    flags = ["--wandb_log=True", "--wandb_project=verses", "--wandb_run_name=first"]  # nanoGPT's
    assert run(*TINY, *flags).code == 0
    wandb.finish()
    assert in_wandb() == in_csv()
    (settings,) = [record.run for record in wandb_records() if record.HasField("run")]
    assert (settings.project, settings.display_name) == ("verses", "first")
    tables = [
        json.loads(path.read_text(encoding="utf-8"))
        for path in RUN.glob("wandb/*run-*/files/media/table/sample_*.json")
    ]
    assert sorted(int(step) for table in tables for step, _ in table["data"]) == [0, 2, 4, 5]
    assert not Path("wandb").exists()


@pytest.mark.parametrize("given", [[], ["--trainer.logger.id", "abc"]], ids=["W&B's id", "the user's id"])
def test_a_branch_is_another_run_to_wandb(run, given):
    assert run(*TINY, "--trainer.max_steps", "2", "--trainer.logger", "Wandb", *given).code == 0
    older = RUN / "checkpoints/older.ckpt"
    older.write_bytes((RUN / "checkpoints/last.ckpt").read_bytes())
    for checkpoint, steps in (("last", "4"), (str(older), "4"), ("last", "5")):
        wandb.finish()
        assert run("fit", "--ckpt_path", checkpoint, "--trainer.max_steps", steps).code == 0
    ids = [{file.stem for file in one.glob("wandb/*/run-*.wandb")} for one in (RUN, Path("runs/version_1"))]
    assert [len(of_run) for of_run in ids] == [1, 1]
    assert ids[0] != ids[1]


@pytest.mark.parametrize(
    ("folders", "id"),
    [
        ([], None),
        (["offline-run-20260131_235959-abc12"], "abc12"),
        (["run-20260131_235959-my-own-run"], "my-own-run"),
        (["run-20260131_235959-abc12", "run-20260131_235959-abc12-1"], "abc12"),  # within a second
        (["offline-run-20260131_235959-older", "offline-run-20260201_000001-newer"], "newer"),
    ],
)
def test_the_id_of_a_wandb_run_is_read_from_the_name_of_its_file(tmp_path, folders, id):
    for folder in folders:
        (tmp_path / "wandb" / folder).mkdir(parents=True)
        name = folder.split("-", 2 + folder.startswith("offline"))[-1].removesuffix("-1")
        (tmp_path / "wandb" / folder / f"run-{name}.wandb").touch()
    assert _wandb_id(tmp_path) == id


def test_without_a_login_the_run_is_refused_in_one_line(run, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "online")
    result = run(*TINY, "--trainer.logger", "Wandb")
    assert result.code == 1
    assert "error: trainer.logger (Wandb) must be able to log, but: No API key configured." in result.err
    assert not list(Path("runs").iterdir())


def test_a_run_with_dashes_in_its_id_is_resumed(run, monkeypatch):
    monkeypatch.setenv("WANDB_RUN_ID", "my-own-run")
    assert run(*TINY, "--trainer.logger", "Wandb").code == 0
    wandb.finish()
    monkeypatch.delenv("WANDB_RUN_ID")
    assert run("fit", "--ckpt_path", "last", "--trainer.max_steps", "6").code == 0
    wandb.finish()
    ids = [record.run.run_id for record in wandb_records() if record.HasField("run")]
    assert ids == ["my-own-run", "my-own-run"]


def test_the_logger_works_without_the_setting_that_lightning_will_drop(monkeypatch):
    """Built directly, because the command line's parser would cache this __init__ for later tests."""
    original = WandbLogger.__init__

    def later(logger, *args, **kwargs):
        original(logger, *args, **kwargs)
        logger._wandb_init.pop("anonymous", None)

    monkeypatch.setattr(WandbLogger, "__init__", later)
    logger = Wandb()
    logger.follow(Path.cwd(), step=0)
    assert logger.experiment.offline
