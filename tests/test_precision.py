"""The precision of a run whose user names none."""

from pathlib import Path

import pytest
import torch
import yaml
from conftest import TINY

from chargpt_lightning.precision import native_precision

UNSAID = [*TINY, "--trainer.precision", "null"]


@pytest.fixture
def cpu_with(monkeypatch):
    """Makes the CPU one that has these instructions, on a machine without a GPU."""

    def cpu_with(*capabilities: str) -> None:
        monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(capabilities, True))

    return cpu_with


@pytest.mark.parametrize(
    ("capabilities", "precision"),
    [(["avx512_bf16"], "bf16-mixed"), (["amx_bf16"], "bf16-mixed"), (["avx512_f"], "32-true"), ([], "32-true")],
)
@pytest.mark.parametrize("accelerator", ["cpu", "auto"])
def test_a_cpu_trains_in_bf16_where_it_has_instructions_for_it(cpu_with, capabilities, precision, accelerator):
    cpu_with(*capabilities)
    assert native_precision(accelerator) == precision


@pytest.mark.parametrize(("supported", "precision"), [(True, "bf16-mixed"), (False, "32-true")])
def test_a_gpu_trains_in_bf16_where_it_has_it(monkeypatch, supported, precision):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: supported)
    assert native_precision("auto") == native_precision("gpu") == precision


def test_the_choice_is_said_and_kept_with_the_run(run, cpu_with):
    cpu_with("avx512_bf16")
    said = run(*UNSAID).err
    assert "precision: bf16-mixed is the fastest here; --trainer.precision takes another\n" in said
    config = yaml.safe_load(Path("runs/version_0/config.yaml").read_bytes())
    assert config["trainer"]["precision"] == "bf16-mixed"
    cpu_with()
    resumed = run("fit", "--ckpt_path", "last", "--trainer.max_steps", "6").err
    assert "on cpu in bf16-mixed" in resumed
    assert "precision: " not in resumed


def test_a_precision_that_is_named_is_taken_in_silence(run, cpu_with):
    cpu_with("avx512_bf16")
    said = run(*TINY).err
    assert "on cpu in 32-true" in said
    assert "precision: " not in said
