"""The workflow runs `.ci/run`, which decides, and beside it no second list of checks."""

import os
import subprocess
from pathlib import Path

import pytest
import yaml
from support import ROOT
from support.platforms import posix

(WORKFLOW,) = (ROOT / ".github" / "workflows").iterdir()
CONTENT = yaml.safe_load(WORKFLOW.read_bytes())
(JOB,) = CONTENT["jobs"].values()
RUNS = [step["run"] for step in JOB["steps"] if "run" in step]


def test_ci_run_decides_on_all_three_systems():
    assert JOB["strategy"] == {
        "fail-fast": False,
        "matrix": {"os": ["ubuntu-latest", "macos-latest", "windows-latest"]},
    }
    assert JOB["runs-on"] == "${{ matrix.os }}"
    last = JOB["steps"][-1]
    assert (last["run"], last.keys()) == ("bash .ci/run", {"name", "run"}), "whatever the system, and it counts"


@pytest.mark.parametrize("check", ["pytest", "ruff", "mypy", "chargpt"])
def test_no_check_stands_in_the_workflow(check):
    assert not any(check in run for run in RUNS)


def test_it_runs_on_every_push_and_pull_request_and_may_only_read():
    assert CONTENT[True] == {"push": None, "pull_request": None}, "YAML's `on` is true"
    assert CONTENT["permissions"] == {"contents": "read"}


@posix
def test_the_readmes_command_finds_windows_environment_through_the_shim(monkeypatch):
    (shim,) = (run for run in RUNS if "python3.11" in run)
    python = Path("python")
    python.write_text('#!/bin/sh\nmkdir -p "$3/Scripts" && ln -s /bin/pwd "$3/Scripts/where"\n', encoding="utf-8")
    python.chmod(0o755)
    here = Path.cwd()
    monkeypatch.setenv("RUNNER_TEMP", str(here))
    monkeypatch.setenv("GITHUB_PATH", str(here / "path"))
    subprocess.run(["bash", "-eo", "pipefail", "-c", shim], check=True)
    added = (here / "path").read_text(encoding="utf-8").rstrip()
    monkeypatch.setenv("PATH", f"{added}{os.pathsep}{here}{os.pathsep}{os.environ['PATH']}")
    command = ["bash", "-euo", "pipefail", "-c", "python3.11 -m venv .venv && . .venv/bin/activate && where"]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == f"{here}\n"
