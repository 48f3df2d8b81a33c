"""Every way to stop a run: what it saves, what it prints, and its exit code."""

import os
import re
import signal
from pathlib import Path

import pytest
import torch
from support.command_line import TINY, exact_rows, rows
from support.platforms import posix

from chargpt_lightning import CharGPT

LONG = [*TINY, "--trainer.max_steps", "100000", "--trainer.val_check_interval", "100000"]
RESUME = "resume: chargpt fit --ckpt_path runs/version_0/checkpoints/last.ckpt"


def saved_step(name: str = "last") -> int:
    return torch.load(f"runs/version_0/checkpoints/{name}.ckpt", weights_only=True)["global_step"]


def send(signum: int):
    return lambda: signal.raise_signal(signum)


def test_ctrl_c_ends_the_update_saves_it_and_prints_how_to_resume(run, interrupt):
    interrupt(2)
    result = run(*TINY)
    assert result.code == 130
    assert result.err.splitlines()[-3:] == [
        "stopping after this update; Ctrl-C again stops at once, without saving",
        "stopped at step 3",
        RESUME,
    ]
    assert saved_step() == 3


def test_a_second_ctrl_c_stops_at_once(run, interrupt, during):
    interrupt(3)
    during(3, happens=send(signal.SIGINT))
    result = run(*TINY)
    assert result.code == 130
    assert "stopped at step" not in result.err
    assert "Traceback" not in result.err
    assert saved_step() == 2


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), pytest.param("SIGHUP", 129, marks=posix)])
def test_sigterm_and_a_closed_terminal_save(run, during, name, code):
    during(2, happens=send(getattr(signal, name, 0)))
    result = run(*TINY)
    assert result.code == code
    assert result.err.endswith(f"stopped at step 3\n{RESUME}\n")
    assert saved_step() == 3


@posix
def test_a_run_under_nohup_outlives_its_terminal(run, during):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    during(2, happens=send(signal.SIGHUP))
    try:
        assert run(*TINY).code == 0
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    assert saved_step() == 5


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_the_first_evaluation_stops_before_the_first_update(run, monkeypatch, signum, code):
    step = CharGPT.validation_step

    def validation_step(module, batch, batch_idx, dataloader_idx):
        if (module.global_step, batch_idx, dataloader_idx) == (0, 0, 0):
            signal.raise_signal(signum)
        return step(module, batch, batch_idx, dataloader_idx)

    monkeypatch.setattr(CharGPT, "validation_step", validation_step)
    result = run(*TINY)
    assert result.code == code
    assert result.err.endswith("stopped before the next update: there is nothing new to save\n")
    assert not list(Path("runs").rglob("*.ckpt"))


def test_a_run_stops_after_an_evaluation_that_is_due(run, interrupt):
    interrupt(3)
    assert run(*TINY).code == 130
    assert saved_step() == 4
    assert [row["step"] for row in rows(Path("runs/version_0")) if row["val/loss"]] == ["0", "2", "4"]


def test_a_stop_without_checkpoints_saves_nothing_and_prints_no_command(run, interrupt):
    interrupt(2)
    result = run(*TINY, "--trainer.enable_checkpointing", "false")
    assert result.code == 130
    assert result.err.endswith("stopped at step 3\n")
    assert not Path("runs/version_0/checkpoints").exists()


def test_max_time_saves_and_a_longer_one_resumes_the_same_run(run):
    result = run(*LONG, "--trainer.max_time", "00:00:00:01")
    assert result.code == 0
    (step,) = map(int, re.findall(r"^stopped at step (\d+)$", result.err, re.MULTILINE))
    assert result.err.endswith(f"{RESUME}\n")
    assert saved_step() == step
    spent = run("fit", "--ckpt_path", "last")
    assert spent.code == 1
    assert spent.err.endswith(
        "error: trainer.max_time must be longer than this run has trained already; raise it to resume\n"
    )
    more = ["--trainer.max_steps", str(step + 3)]
    assert run("fit", "--ckpt_path", "last", "--trainer.max_time", "00:01:00:00", *more).code == 0
    assert run(*LONG, *more).code == 0
    assert exact_rows(Path("runs/version_0")) == exact_rows(Path("runs/version_1"))


@posix
@pytest.mark.parametrize("then", [signal.SIGTERM, None])
@pytest.mark.parametrize("step", [3, 4])
def test_slurms_signal_saves_and_requeues_and_the_next_job_resumes(run, during, monkeypatch, tmp_path, step, then):
    """As Lightning documents it, except that it saves between updates."""
    assert run(*TINY, "--trainer.max_steps", "8").code == 0
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/called\n', encoding="utf-8")
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", f"{scontrol.parent}:{os.environ['PATH']}")
    for name, value in {"NTASKS": "1", "JOB_ID": "42", "JOB_NAME": "train", "PROCID": "0", "LOCALID": "0"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    during(step, happens=send(signal.SIGUSR1))
    during(step + 1, happens=send(then) if then else broken)
    if then:
        assert run(*TINY, "--trainer.max_steps", "8").code == 143
    else:
        with pytest.raises(RuntimeError, match="the node is gone"):
            run(*TINY, "--trainer.max_steps", "8")
    assert (tmp_path / "called").read_text(encoding="utf-8") == "requeue 42\n"
    assert torch.load("runs/hpc_ckpt_1.ckpt", weights_only=True)["global_step"] == step + 1
    result = run(*TINY, "--trainer.max_steps", "8")
    assert result.code == 0
    assert f"resuming runs/version_1 at step {step + 2 if then else step + 1}" in result.err
    assert exact_rows(Path("runs/version_1")) == exact_rows(Path("runs/version_0"))


def broken() -> None:
    raise RuntimeError("the node is gone")


def test_a_dry_run_can_be_stopped(run, interrupt):
    interrupt(1)
    result = run(*TINY, "--trainer.fast_dev_run", "4")
    assert result.code == 130
    assert not Path("runs").exists()
