"""`chargpt plot`: the files that it writes, and what it refuses."""

from pathlib import Path

import pytest
from support.command_line import TINY, refused
from support.platforms import needs


@needs("matplotlib")
@pytest.mark.parametrize(("suffix", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_plot_writes_several_runs_into_one_picture(run, tiny_run, suffix, start):
    assert run(*TINY).code == 0
    result = run("plot", "runs/version_0", "runs/version_1", "--out", f"pictures/both.{suffix}")
    assert (result.code, result.out, result.err) == (0, "", f"plot: pictures/both.{suffix}\n")
    assert Path(f"pictures/both.{suffix}").read_bytes().startswith(start)


@needs("matplotlib")
@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "the following arguments are required: runs"),
        (["nowhere"], "run (nowhere) must be a run's directory with a metrics.csv, but: No such file or directory"),
        (["empty"], "run (empty) must have been evaluated at least once to be plotted"),
        (["odd"], "run (odd) must have numbers in its metrics.csv, but: could not convert string to float: 'x'"),
        (["empty", "--out", "curves.gif"], "out (curves.gif) must end in one of .png, .svg, .pdf"),
        (["empty", "--out", "curves"], "out (curves) must end in one of .png, .svg, .pdf"),
    ],
)
def test_runs_and_formats_that_cannot_be_drawn_are_refused(run, args, message):
    for name, loss in (("empty", ""), ("odd", "x")):
        Path(name).mkdir()
        Path(name, "metrics.csv").write_text(f"step,val/loss\n1,{loss}\n", encoding="utf-8")
    assert refused(run, "plot", *args) == message


def test_without_matplotlib_the_error_names_the_package(run, tiny_run, monkeypatch):
    monkeypatch.setattr("chargpt_lightning.utils.errors.find_spec", lambda name: None)
    message = "plot (runs/version_0) needs the package matplotlib: pip install matplotlib"
    assert refused(run, "plot", "runs/version_0") == message
