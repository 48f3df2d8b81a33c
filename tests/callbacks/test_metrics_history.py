"""Checkpoints know how many rows of metrics.csv belong to them."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from chargpt_lightning.callbacks.metrics_history import HistoryInCheckpoints
from chargpt_lightning.loggers.csv_logger import History


@pytest.fixture
def history():
    history = History(Path("runs"))
    history.claim()
    yield history
    history.close()


def trainer(history: History, rank: int = 0) -> SimpleNamespace:
    return SimpleNamespace(logger=history, is_global_zero=rank == 0, checkpoint_callbacks=[])


def saved(history: History, rank: int = 0) -> dict:
    checkpoint: dict = {}
    HistoryInCheckpoints().on_save_checkpoint(trainer(history, rank), None, checkpoint)
    return checkpoint


def test_a_checkpoint_counts_the_rows_before_it_and_they_are_on_disk(history):
    for step in range(3):
        history.log_metrics({"val/loss": 1.0}, step=step)
    assert saved(history) == {"history": {"run": "version_0", "rows": 3, "columns": ["step", "val/loss"]}}
    assert history.path.read_text(encoding="utf-8").count("\n") == 4


def test_only_the_first_device_counts(history):
    assert saved(history, rank=1) == {}


def test_a_resumed_run_drops_the_rows_after_the_checkpoint(history):
    history.log_metrics({"val/loss": 1.0}, step=0)
    checkpoint = saved(history)
    history.log_metrics({"val/loss": 2.0}, step=1)
    history.save()
    history.close()
    resumed = History(Path("runs"), run=Path("runs/version_0"))
    resumed.claim()
    HistoryInCheckpoints().on_load_checkpoint(trainer(resumed), None, checkpoint)
    assert resumed.path.read_text(encoding="utf-8").splitlines() == ["step,val/loss", "0,1.0"]
    resumed.close()


def test_without_metrics_csv_nothing_is_stored():
    checkpoint: dict = {}
    HistoryInCheckpoints().on_save_checkpoint(trainer(None), None, checkpoint)
    HistoryInCheckpoints().on_load_checkpoint(trainer(None), None, checkpoint)
    assert checkpoint == {}
