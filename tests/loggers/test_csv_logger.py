"""metrics.csv: of any size in little memory, damaged or gone, and what is drawn of it."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from support.command_line import rows

from chargpt_lightning.loggers.csv_logger import History
from chargpt_lightning.utils import plotting
from chargpt_lightning.utils.csv_table import read_header, rewrite
from chargpt_lightning.utils.plotting import read_columns

RUN = Path("runs/version_0")
CSV = RUN / "metrics.csv"
MORE = ["fit", "--ckpt_path", "last", "--trainer.max_steps", "6"]
COLUMNS = ["lr", "step", "train/loss", "val/loss"]


@pytest.fixture
def history():
    """The metrics.csv of a run that resumes."""
    RUN.mkdir(parents=True)
    history = History(Path("runs"), RUN)
    yield history
    history.close()


def long_file(updates: int) -> None:
    """An evaluation every thousand updates, the best at update 1234, which is none of an even number."""
    with CSV.open("w", encoding="utf-8") as file:
        file.write("lr,step,train/loss,val/loss\n")
        for step in range(updates):
            file.write(f"0.001,{step},{1 + 1 / (step + 1)},\n")
            if step % 1000 == 234:
                file.write(f",{step},,{1.5 if step == 1234 else 2.5}\n")


def peak_mb(work: Callable[[], object]) -> float:
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 2**20


def lost(kept: int, of: int) -> str:
    return f"runs/version_0/metrics.csv has lost {of - kept} of the {of} rows before the checkpoint\n"


@pytest.mark.parametrize("damage", ["gone", "empty", "header only", "shortened"])
def test_rows_that_are_lost_are_said_to_be(run, tiny_run, damage):
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
def test_a_damaged_header_is_said_and_its_file_kept(run, tiny_run, header):
    first, rest = CSV.read_bytes().split(b"\r\n", 1)
    damaged = header + (b"" if header[:1] in b"a" else first[1:] + b"\r\n") + rest
    CSV.write_bytes(damaged)
    result = run(*MORE)
    assert result.code == 0
    assert f"{CSV} has a damaged header, so its rows are left out; they are still in {CSV}.damaged-1\n" in result.err
    assert lost(0, 9) in result.err
    assert (RUN / "metrics.csv.damaged-1").read_bytes() == damaged
    assert [row["step"] for row in rows(RUN)] == ["5", "6"]


def test_without_a_loss_nothing_is_said(run, tiny_run):
    assert "metrics.csv" not in run(*MORE).err


STRANGE = [
    b'0.1,0,"3\r\n,4",\r\n',  # a line end within quotes
    b"0.1,1,\x00\x00,\r\n",
    b"0.1,2,\xff\xfe,\r\n",
    b"0.1,3,4,,5,6,7\r\n",
    b"0.1\r\n",
    b"0.1,4\r,4,\r\n",
    b"0.1,5," + b"9" * 200_000 + b",\r\n",  # more than csv takes as a field
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


def test_a_last_row_without_its_line_end_gets_one(history):
    CSV.write_bytes(b"step,val/loss\r\n0,3\r\n1,2")
    history.continue_after(2, [])
    history.log_metrics({"val/loss": 1.0}, step=2)
    history.save()
    assert CSV.read_bytes() == b"step,val/loss\r\n0,3\r\n1,2\r\n2,1.0\r\n"


def test_a_column_that_came_after_the_checkpoint_goes(history):
    CSV.write_bytes(b"late,step,val/loss\r\n,0,3\r\n7,1,2\r\n")
    history.continue_after(1, ["step", "val/loss"])
    assert CSV.read_bytes() == b"step,val/loss\r\n0,3\r\n"


def test_a_write_that_fails_leaves_the_old_file(history, monkeypatch):
    CSV.write_bytes(content := b"step,val/loss\r\n0,3\r\n1,2\r\n")
    monkeypatch.setattr("os.fsync", lambda file: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        history.continue_after(1, ["step", "val/loss"])
    assert CSV.read_bytes() == content
    assert sorted(path.name for path in RUN.iterdir()) == [".lock", "metrics.csv"]


def test_resuming_takes_no_memory_for_the_rows(history):
    long_file(50_000)
    assert peak_mb(lambda: history.continue_after(50_000, COLUMNS)) < 2
    assert history.rows == 50_000
    history.log_metrics({"late": 5.0}, step=1)
    assert peak_mb(history.save) < 2
    assert read_header(CSV) == ["late", *COLUMNS]


def test_rewriting_a_file_that_is_missing_writes_what_is_new():
    assert rewrite(Path("none.csv"), Path("new.csv"), ["a", "b"], more=[{"a": 1}]) == 0
    assert Path("new.csv").read_bytes() == b"a,b\r\n1,\r\n"


def test_a_picture_of_a_long_run_takes_bounded_memory_and_keeps_every_evaluation(history, monkeypatch):
    long_file(100_000)
    monkeypatch.setattr(plotting, "MOST_POINTS", 1000)
    columns: dict = {}
    assert peak_mb(lambda: columns.update(read_columns(RUN))) < 2
    steps, losses = columns["train/loss"]
    assert steps == list(range(0, 100_000, 128))  # of 100,000 / 128 = 782 points, and of 64 there would be 1563
    assert losses == [1 + 1 / (step + 1) for step in steps]
    evaluations = [step for step in range(100_000) if step % 1000 == 234]
    assert columns["val/loss"] == (evaluations, [1.5 if step == 1234 else 2.5 for step in evaluations])


def test_up_to_the_bound_every_point_is_kept(history, monkeypatch):
    long_file(1000)
    monkeypatch.setattr(plotting, "MOST_POINTS", 1000)
    assert read_columns(RUN)["lr"] == (list(range(1000)), [0.001] * 1000)


@pytest.mark.parametrize("damage", [b",\x00x,", b",0,0,0,0,0,0,0,0,0,0,0,0,"], ids=["no number", "too many fields"])
def test_damage_in_old_rows_stops_no_run_but_its_picture(run, tiny_run, monkeypatch, damage):
    monkeypatch.setattr("chargpt_lightning.trainer.setup.can_draw", plotting.can_draw)
    CSV.write_bytes(CSV.read_bytes().replace(b",0,", damage, 1))
    result = run(*MORE, "--trainer.max_steps", "8")
    assert result.code == 0
    assert result.err.count("curves.png is not drawn: run (runs/version_0) must have numbers in its metrics.csv") == 1
