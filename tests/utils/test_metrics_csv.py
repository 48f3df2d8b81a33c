"""Reading metrics.csv: all evaluations, in bounded memory and time."""

import os
import time
from pathlib import Path

from support.metrics_csv import CSV, RUN, peak_mb, write_long_file

from chargpt_lightning.utils import metrics_csv
from chargpt_lightning.utils.metrics_csv import best_val_loss, read_columns


def test_a_long_run_is_read_in_bounded_memory_with_every_evaluation(monkeypatch):
    write_long_file(100_000)
    monkeypatch.setattr(metrics_csv, "MAX_POINTS", 1000)
    columns: dict = {}
    assert peak_mb(lambda: columns.update(read_columns(RUN))) < 2
    steps, losses = columns["train/loss"]
    assert steps == list(range(0, 100_000, 128))  # 782 points; every 64th step would be 1563
    assert losses == [1 + 1 / (step + 1) for step in steps]
    evaluations = [step for step in range(100_000) if step % 1000 == 234]
    assert columns["val/loss"] == (evaluations, [1.5 if step == 1234 else 2.5 for step in evaluations])


def test_up_to_the_bound_every_point_is_kept(monkeypatch):
    write_long_file(1000)
    monkeypatch.setattr(metrics_csv, "MAX_POINTS", 1000)
    assert read_columns(RUN)["lr"] == (list(range(1000)), [0.001] * 1000)


def test_a_wide_header_over_many_short_rows_is_read_in_time():
    Path("wide").mkdir()
    header = ",".join(["step", "val/loss", *(f"c{number}" for number in range(20_000))])
    Path("wide/metrics.csv").write_text("\n".join([header, *["1,2"] * 20_000]), encoding="utf-8")
    start_s = time.perf_counter()
    assert len(read_columns(Path("wide"))["val/loss"][0]) == 20_000
    assert time.perf_counter() - start_s < 5


def test_the_best_val_loss_is_read_again_only_after_the_file_has_changed(monkeypatch):
    RUN.mkdir(parents=True)
    CSV.write_text("step,val/loss\n1,2.5\n2,1.25\n3,1.5\n", encoding="utf-8")
    os.utime(CSV, ns=(0, 1))
    assert best_val_loss(RUN) == 1.25
    with monkeypatch.context() as patch:
        patch.setattr(metrics_csv, "read_columns", None)
        assert best_val_loss(RUN) == 1.25
    CSV.write_text("step,val/loss\n1,1.0\n", encoding="utf-8")
    os.utime(CSV, ns=(0, 2))
    assert best_val_loss(RUN) == 1.0


def test_a_run_without_a_val_loss_has_no_best_one():
    assert best_val_loss(RUN) is None
    RUN.mkdir(parents=True)
    CSV.write_text("step,val/loss\n", encoding="utf-8")
    assert best_val_loss(RUN) is None
