"""metrics.csv: soon on disk; of a resumed run, of any size in little memory, damaged or missing."""

from pathlib import Path

import pytest
from support.command_line import TINY, rows
from support.metrics_csv import COLUMNS, CSV, RUN, peak_mb, write_long_file

from chargpt_lightning import CharGPT
from chargpt_lightning.loggers import csv_logger
from chargpt_lightning.loggers.csv_logger import History
from chargpt_lightning.utils.csv_table import read_header

MORE = ["fit", "--ckpt_path", "last", "--trainer.max_steps", "6"]


@pytest.fixture
def history():
    """The metrics.csv of a run that resumes."""
    RUN.mkdir(parents=True)
    history = History(Path("runs"), RUN)
    yield history
    history.close()


@pytest.mark.parametrize("interval_s", [0.02, 0.9, 2.9, 4, 60])
def test_a_row_is_on_disk_within_five_seconds(history, monkeypatch, interval_s):
    """If the next one is logged after the same time; otherwise an evaluation comes next."""
    clock = [1000.0]
    monkeypatch.setattr(csv_logger, "perf_counter", lambda: clock[0])
    logged = []
    for step in range(round(max(5, 30 / interval_s))):
        history.log_metrics({"lr": 0.1}, step=step)
        logged.append(clock[0])
        on_disk = len(rows(RUN)) if CSV.exists() else 0
        assert sum(time <= clock[0] - 5 for time in logged) <= on_disk
        assert on_disk == len(logged) or interval_s < 4
        clock[0] += interval_s


def test_rows_are_on_disk_before_an_evaluation(run, monkeypatch):
    counts = []
    begin = CharGPT.on_validation_epoch_start

    def count(module):
        counts.append((module.global_step, len(rows(RUN)) if CSV.exists() else 0))
        begin(module)

    monkeypatch.setattr(CharGPT, "on_validation_epoch_start", count)
    assert run(*TINY).code == 0
    evaluations = [0, 2, 4, 5]
    assert counts == [(step, step + number) for number, step in enumerate(evaluations)]


def lost(kept: int, of: int) -> str:
    return f"runs/version_0/metrics.csv has lost {of - kept} of the {of} rows before the checkpoint\n"


@pytest.mark.parametrize("damage", ["gone", "empty", "header only", "shortened"])
def test_lost_rows_are_reported(run, tiny_run, damage):
    lines = CSV.read_bytes().splitlines(keepends=True)
    if damage == "gone":
        CSV.unlink()
    else:
        CSV.write_bytes(b"".join(lines[: {"empty": 0, "header only": 1, "shortened": 4}[damage]]))
    kept = 3 if damage == "shortened" else 0
    result = run(*MORE)
    assert result.code == 0
    assert lost(kept, len(lines) - 1) in result.err
    assert [row["step"] for row in rows(RUN)[kept:]] == ["5", "6"]


@pytest.mark.parametrize("header", [b"a,b,c\r\n", b"", b"\xff\xfe", b"\0"], ids=["another", "none", "bytes", "NUL"])
def test_a_damaged_header_is_reported_and_its_file_kept(run, tiny_run, header):
    first, rest = CSV.read_bytes().split(b"\r\n", 1)
    damaged = header + (b"" if header[:1] in b"a" else first[1:] + b"\r\n") + rest
    CSV.write_bytes(damaged)
    result = run(*MORE)
    assert result.code == 0
    assert f"{CSV} has a damaged header, so its rows are left out; they are still in {CSV}.damaged-1\n" in result.err
    assert lost(0, 9) in result.err
    assert (RUN / "metrics.csv.damaged-1").read_bytes() == damaged
    assert [row["step"] for row in rows(RUN)] == ["5", "6"]


def test_an_intact_file_is_not_mentioned(run, tiny_run):
    assert "metrics.csv" not in run(*MORE).err


STRANGE = [
    b'0.1,0,"3\r\n,4",\r\n',  # a line end within quotes
    b"0.1,1,\x00\x00,\r\n",
    b"0.1,2,\xff\xfe,\r\n",
    b"0.1,3,4,,5,6,7\r\n",
    b"0.1\r\n",
    b"0.1,4\r,4,\r\n",
    b"0.1,5," + b"9" * 200_000 + b",\r\n",  # more than csv accepts as a field
]


@pytest.mark.parametrize("row", range(len(STRANGE)))
def test_strange_rows_are_kept_and_counted(history, row):
    before, after = [b"0.1,8,3,\r\n"] * 2, [b"0.1,9,3,\r\n"] * 2
    CSV.write_bytes(b"".join([b"lr,step,train/loss,val/loss\r\n", *before, STRANGE[row], *after]))
    many = row == len(STRANGE) - 1  # cut in pieces, which are rows of their own
    history.continue_after(100, COLUMNS)
    assert (history.rows >= 5) if many else (history.rows == 5)
    history.continue_after(3, COLUMNS)
    content = CSV.read_bytes()
    assert history.rows == 3
    assert content.startswith(b"".join([b"lr,step,train/loss,val/loss\r\n", *before, STRANGE[row][:1000]]))
    history.log_metrics({"late": 5.0}, step=10)
    history.save()
    assert CSV.read_bytes().splitlines()[:3] == [b"late,lr,step,train/loss,val/loss"] + [b",0.1,8,3,"] * 2
    assert CSV.read_bytes().endswith(b"\r\n5.0,,10,,\r\n")


def test_a_last_row_without_a_line_end_gets_one(history):
    CSV.write_bytes(b"step,val/loss\r\n0,3\r\n1,2")
    history.continue_after(2, [])
    history.log_metrics({"val/loss": 1.0}, step=2)
    history.save()
    assert CSV.read_bytes() == b"step,val/loss\r\n0,3\r\n1,2\r\n2,1.0\r\n"


def test_a_column_added_after_the_checkpoint_is_removed(history):
    CSV.write_bytes(b"late,step,val/loss\r\n,0,3\r\n7,1,2\r\n")
    history.continue_after(1, ["step", "val/loss"])
    assert CSV.read_bytes() == b"step,val/loss\r\n0,3\r\n"


def test_a_write_that_fails_leaves_the_old_file(history, monkeypatch):
    CSV.write_bytes(content := b"step,val/loss\r\n0,3\r\n1,2\r\n")
    monkeypatch.setattr("os.fsync", lambda file: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        history.continue_after(1, ["step", "val/loss"])
    assert CSV.read_bytes() == content
    assert [path.name for path in RUN.iterdir()] == ["metrics.csv"]


def test_resuming_takes_no_memory_for_the_rows(history):
    write_long_file(50_000)
    assert peak_mb(lambda: history.continue_after(50_000, COLUMNS)) < 2
    assert history.rows == 50_000
    history.log_metrics({"late": 5.0}, step=1)
    assert peak_mb(history.save) < 2
    assert read_header(CSV) == ["late", *COLUMNS]


def test_a_header_of_very_many_columns_is_damaged(history, caplog):
    """Rewriting it would repeat them in every row, which can take gigabytes."""
    CSV.write_text(",".join(["step", "lr", *(f"c{number}" for number in range(5000))]) + "\n1\n2\n", encoding="utf-8")
    history.continue_after(2, ["step", "lr"])
    assert "has a damaged header" in caplog.text
    assert history.rows == 0
