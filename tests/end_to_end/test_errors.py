"""Bad input ends in one line that names the value and the rule, an exit code that is not 0, and no files written.

One case of each kind; all rules are proven beside their modules.
"""

import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from support.command_line import TINY, refused


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--model.n_head", "3"], "n_embd (8) must be divisible by n_head (3)"),
        (["--data.batch_size", "0"], "batch_size (0) must be at least 1"),
        (["--model.learning_rate", "0"], "learning_rate (0.0) must be above 0 and finite"),
        (["--trainer.val_check_interval", "0"], "trainer.val_check_interval (0) must be at least 1"),
        (["--trainer.accelerator", "abacus"], "trainer: You selected an invalid accelerator name"),
        (["--model.dropout", "x"], "Parser key \"model.dropout\": Expected a <class 'float'>. Got value: x"),
        (["--config", "none.yaml"], "config (none.yaml) must be a file, or one of the recipes shakespeare_char, "),
        (["--data.text", "none.txt"], "data.text (none.txt) must be a readable file, but: No such file"),
        (["--data.text", "latin.txt"], "data.text (latin.txt) must be UTF-8, but byte 3 is not"),
        (["--ckpt_path", "none.ckpt"], "ckpt_path (none.ckpt) must be a checkpoint file, but there is no such file"),
    ],
)
def test_fit_refuses_bad_input_of_every_kind_in_one_line(run, args, message):
    Path("latin.txt").write_bytes("caf\xe9".encode("latin-1"))
    assert refused(run, *TINY, *args).startswith(message)


class NeedsPackage(Callback):
    """Imports a package only when training starts, as DeviceStatsMonitor does."""

    def setup(self, trainer, pl_module, stage):
        import_module("no_such_package")


def test_a_missing_package_is_named_in_one_line(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "user", SimpleNamespace(NeedsPackage=NeedsPackage))
    monkeypatch.setattr(NeedsPackage, "__module__", "user")
    result = run(*TINY, "--trainer.callbacks", "user.NeedsPackage")
    message = "error: a setting needs a package that cannot be imported: No module named 'no_such_package'"
    assert (result.code, result.err.splitlines()[-1]) == (1, message)
    assert list(Path("runs").iterdir()) == []
    assert "Requirement 'torch_xla" in refused(run, *TINY, "--trainer.accelerator", "tpu")


@pytest.mark.parametrize("size", ["model.n_embd", "model.block_size"])
def test_a_network_that_no_memory_holds_is_refused_in_one_line(run, size):
    message = refused(run, *TINY, f"--{size}", str(2**60))
    assert message.startswith("out of memory: ")
    assert f"--{size}" in message.partition("; use a smaller network ")[2]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device", "last.ckpt"), torch.OutOfMemoryError("CUDA")])
def test_a_full_disk_or_memory_in_training_tells_how_to_resume(run, during, error):
    def fail():
        raise error

    during(3, happens=fail)
    result = run(*TINY)
    assert result.code == 1
    resume, message = result.err.splitlines()[-2:]
    assert resume == "resume: chargpt fit --ckpt_path runs/version_0/checkpoints/last.ckpt"
    assert message.startswith(
        ("error: [Errno 28] No space left on device: 'last.ckpt'", "error: out of memory: CUDA; ")
    )


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--sample.prompt="], "prompt ('') must contain at least one character"),
        (["--sample.prompt", "FILE:none"], "prompt (none) must be a readable file, but: No such file"),
        (["--sample.temperature", "-1"], "temperature (-1.0) must be at least 0 and finite"),
    ],
)
def test_predict_refuses_bad_input_in_one_line(run, tiny_run, args, message):
    assert refused(run, "predict", *args).startswith(message)


def test_a_text_with_characters_that_the_checkpoint_lacks_is_refused(run, tiny_run):
    Path("other.txt").write_text("0123456789" * 100, encoding="utf-8")
    message = refused(run, "validate", "--data.text", "other.txt")
    assert message.startswith(
        "data.text ('0' at position 0 of other.txt) must use only the 21 characters of the vocabulary"
    )
    assert "sample.unknown" not in message, "that is for prompts"
