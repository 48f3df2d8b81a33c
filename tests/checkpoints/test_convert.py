"""Other programs' checkpoints are converted to a temporary file, which is deleted whatever happens."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from support import ROOT
from support.command_line import TINY, Result
from support.platforms import posix, several_devices
from support.processes import forked, two_devices
from support.several_devices import DDP, FSDP2

from chargpt_lightning import CharGPT

RESUMED = [*TINY, "--trainer.max_steps", "12"]  # the exported run has made 5 updates


@pytest.fixture
def of_nanogpt(run, tiny_run) -> str:
    """nanoGPT's checkpoint of a run, with its optimizer's state."""
    assert run("export", "--format", "nanogpt", "--out", "exported", "--ckpt_path", "last").code == 0
    return "exported/ckpt.pt"


@pytest.fixture
def temporary(monkeypatch) -> Path:
    """An empty directory for temporary files."""
    directory = Path("temporary").absolute()
    directory.mkdir()
    monkeypatch.setenv("TMPDIR", str(directory))
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    return directory


STOP = ["--trainer.callbacks", "support.callbacks.StopAt", "--trainer.callbacks.step", "8"]
STOP += ["--trainer.callbacks.signum", str(int(signal.SIGKILL)), "--trainer.callbacks.rank", "0"]


def launched(*args: str) -> Result:
    """Runs a command in a new Python, whose launcher starts the second device."""
    command = [sys.executable, "-m", "chargpt_lightning", *args]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    return Result(done.returncode, done.stdout, done.stderr)


@posix
def test_a_kill_in_training_leaves_no_temporary_file(of_nanogpt, temporary):
    killed = forked(*RESUMED, "--ckpt_path", of_nanogpt, *STOP)
    assert killed.code == -signal.SIGKILL, killed.err
    assert "resuming in a new directory at step 5" in killed.err
    assert list(temporary.iterdir()) == []


@pytest.mark.slow
@several_devices
@pytest.mark.usefixtures("for_two_devices")
@pytest.mark.parametrize(("start", "two"), [(launched, DDP), (two_devices, FSDP2)], ids=["DDP, python -m", "FSDP2"])
def test_a_kill_of_one_of_two_devices_leaves_no_temporary_file(of_nanogpt, temporary, start, two):
    other_text = ["--data.sha256", "null"]  # the text for two devices is longer
    shared = ["--ckpt_path", of_nanogpt, "--gradient_accumulation_steps=2", *other_text]
    killed = start(*RESUMED, *shared, *two, *STOP)
    assert killed.code == -signal.SIGKILL, killed.err
    assert [path for path in temporary.iterdir() if path.suffix == ".ckpt"] == []


@pytest.mark.parametrize("command", ["fit", "validate", "predict"])
def test_the_temporary_file_is_deleted_before_the_command_works(run, of_nanogpt, temporary, monkeypatch, command):
    restored, seen = [], []
    load = TorchCheckpointIO.load_checkpoint

    def loaded(io, path, *args, **kwargs):
        restored.append(Path(path).parent)
        return load(io, path, *args, **kwargs)

    def watched(name):
        step = getattr(CharGPT, name)
        return lambda *args: seen.append(list(temporary.iterdir())) or step(*args)

    monkeypatch.setattr(TorchCheckpointIO, "load_checkpoint", loaded)
    for name in ("training_step", "validation_step", "predict_step"):
        monkeypatch.setattr(CharGPT, name, watched(name))
    more = {"fit": RESUMED[1:], "validate": ["--data.text", "verse.txt"], "predict": ["--num_samples=1"]}[command]
    result = run(command, *more, "--ckpt_path", of_nanogpt)
    assert result.code == 0, result.err
    assert restored == [temporary]
    assert seen
    assert not any(seen)


def test_a_failure_before_training_leaves_no_temporary_file(run, of_nanogpt, temporary, monkeypatch):
    monkeypatch.setattr("chargpt_lightning.cli.run_config.SaveConfig.save_config", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(*RESUMED, "--ckpt_path", of_nanogpt)
    assert list(temporary.iterdir()) == []


def test_loading_a_network_reads_its_file_once(tiny_run, monkeypatch):
    path = tiny_run / "checkpoints/last.ckpt"
    right = torch.load(path, weights_only=True)["state_dict"]
    readings, opened = [], torch.load

    def load(source, *args, **kwargs):
        readings.append(source)
        return opened(source, *args, **kwargs)

    monkeypatch.setattr(torch, "load", load)
    network = CharGPT.load_from_checkpoint(path)
    assert [source for source in readings if source == path] == [path]
    assert all(torch.equal(weight, right[name]) for name, weight in network.state_dict().items())
