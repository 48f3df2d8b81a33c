"""What other systems do otherwise: encodings, drives, locks."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, TINY

from chargpt_lightning.runs import from_here, release_directory

OURS = [path for folder in ("chargpt_lightning", "benchmarks", "tests") for path in (ROOT / folder).glob("*.py")]
ASCII = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}  # as far from UTF-8 as Windows' code pages


def opens_text(node: ast.AST) -> bool:
    """Whether a call opens a file, and not for bytes."""
    if not isinstance(node, ast.Call):
        return False
    in_bytes = any(isinstance(arg, ast.Constant) and "b" in str(arg.value) for arg in node.args)
    called = ast.unparse(node.func)
    opens = (called == "open" or called.endswith(".open")) and called != "os.open" and not in_bytes
    return opens or called.endswith((".read_text", ".write_text"))


@pytest.mark.parametrize("path", OURS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_whoever_opens_a_text_says_its_encoding(path):
    calls = [node for node in ast.walk(ast.parse(path.read_bytes())) if opens_text(node)]
    unsaid = [node.lineno for node in calls if "encoding" not in {keyword.arg for keyword in node.keywords}]
    assert unsaid == []


def test_samples_are_utf_8_wherever_they_go(run):
    Path("verse.txt").write_text("Zoë ☃\n" * 100, encoding="utf-8")
    assert run(*TINY).code == 0
    command = [sys.executable, "-m", "chargpt_lightning", "predict", "--num_samples=1", "--trainer.accelerator", "cpu"]
    result = subprocess.run(command, capture_output=True, env=os.environ | ASCII, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    assert {"ë", "☃"} <= set(result.stdout.decode("utf-8"))


def test_a_runs_settings_are_the_same_in_every_encoding(run):
    text = Path("verse.txt").rename("Zoë.txt")
    assert run(*TINY, "--data.text", str(text)).code == 0
    assert Path("runs/version_0/config.yaml").read_bytes().isascii()
    resumed = run("fit", "--ckpt_path", "last", "--trainer.max_steps", "6")
    assert resumed.code == 0, resumed.err
    assert "data.text" not in resumed.err


def test_a_path_that_leads_to_another_drive_is_said_whole(monkeypatch):
    assert from_here(Path("a", "b").absolute()) == Path("a", "b")

    def relpath(path):
        raise ValueError(f"path is on mount 'D:', start on mount 'C:': {path}")

    monkeypatch.setattr(os.path, "relpath", relpath)
    whole = Path("a").absolute()
    assert from_here(whole) == whole


@pytest.mark.parametrize("left", [[], [".lock"], [".lock", "metrics.csv"]])
def test_a_run_that_wrote_nothing_leaves_nothing_whatever_becomes_of_a_lock(left):
    run = Path("runs/version_0")
    run.mkdir(parents=True)
    for name in left:
        (run / name).touch()
    release_directory(run)
    assert run.exists() == ("metrics.csv" in left)
