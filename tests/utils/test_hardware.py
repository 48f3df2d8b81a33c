"""The default precision of a device, the dtype of its matrix products, and its memory allocator."""

import sys
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch.plugins import MixedPrecision
from support.command_line import TINY
from support.precisions import PRODUCT_DTYPES
from support.processes import Python

from chargpt_lightning.utils.hardware import is_out_of_memory, matmul_dtype, native_precision

FAULTS_OF_A_STEP = """
import ctypes, resource
from chargpt_lightning.utils.hardware import M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, keep_freed_memory

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]

def step():
    activations = [libc.malloc(2**21) for _ in range(8)]
    for activation in activations:
        ctypes.memset(activation, 1, 2**21)
    for activation in activations:
        libc.free(activation)

for threshold in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD):  # glibc's first values; once set, it does not adapt them
    libc.mallopt(threshold, 131072)
if {keep}:
    keep_freed_memory()
for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // 10)
"""

WITHOUT_PRECISION = [*TINY, "--trainer.precision", "null"]


@pytest.fixture
def cpu_with(monkeypatch):
    """Makes the CPU one that has these instructions, on a machine without a GPU."""

    def cpu_with(bf16: bool) -> None:
        monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bf16)

    return cpu_with


@pytest.mark.parametrize(("bf16", "precision"), [(True, "bf16-mixed"), (False, "32-true")])
@pytest.mark.parametrize("accelerator", ["cpu", "auto"])
def test_a_cpu_trains_in_bf16_if_it_has_instructions_for_it(cpu_with, bf16, precision, accelerator):
    cpu_with(bf16)
    assert native_precision(accelerator) == precision


@pytest.mark.parametrize(("supported", "precision"), [(True, "bf16-mixed"), (False, "32-true")])
def test_a_gpu_trains_in_bf16_if_it_supports_it(monkeypatch, supported, precision):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: supported)
    assert native_precision("auto") == native_precision("gpu") == precision


def test_the_chosen_precision_is_printed_and_saved(run, cpu_with):
    cpu_with(bf16=True)
    messages = run(*WITHOUT_PRECISION).err
    assert "precision: bf16-mixed is the default here; --trainer.precision overrides it\n" in messages
    config = yaml.safe_load(Path("runs/version_0/config.yaml").read_bytes())
    assert config["trainer"]["precision"] == "bf16-mixed"
    cpu_with(bf16=False)
    resumed = run("fit", "--ckpt_path", "last", "--trainer.max_steps", "6").err
    assert "on cpu in bf16-mixed" in resumed
    assert "precision: " not in resumed


def test_a_given_precision_is_used_without_a_message(run, cpu_with):
    cpu_with(bf16=True)
    messages = run(*TINY).err
    assert "on cpu in 32-true" in messages
    assert "precision: " not in messages


@pytest.mark.parametrize(("precision", "dtype"), PRODUCT_DTYPES.items())
def test_the_dtype_of_products_is_that_of_the_precision(precision, dtype):
    plugin = L.Trainer(accelerator="cpu", precision=precision, logger=False).precision_plugin
    network = plugin.convert_module(torch.nn.Linear(2, 2))
    assert matmul_dtype(plugin.forward_context(), network.weight) == dtype


def test_products_cast_by_autocast_have_its_dtype_whatever_the_weights():
    """The precisions of Transformer Engine and FSDP cast both."""
    weight = torch.ones(1, 1, dtype=torch.bfloat16)
    assert matmul_dtype(MixedPrecision("16-mixed", "cpu").forward_context(), weight) == torch.float16


def faults_of_a_step(keep: bool) -> int:
    return int(Python("-c", FAULTS_OF_A_STEP.format(keep=keep)).result().out)


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc has these settings")
def test_a_step_reuses_the_memory_that_the_last_step_freed():
    assert faults_of_a_step(keep=False) > 100
    assert faults_of_a_step(keep=True) < 10


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("[enforce fail] . DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
    ],
)
def test_errors_of_memory_are_known(error, expected):
    assert is_out_of_memory(error) == expected


def test_torch_and_numpy_report_sizes_that_no_memory_has():
    for allocate in (lambda: torch.empty(2**62), lambda: np.empty(2**62)):
        with pytest.raises((RuntimeError, ValueError)) as error:
            allocate()
        assert is_out_of_memory(error.value)
