"""The default precision of a device, and the memory allocator of a CPU."""

import ctypes
import sys
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # from glibc's <malloc.h>
LARGEST_MMAP_THRESHOLD = 2**25  # that glibc accepts, in bytes
NEVER = 2**31 - 1  # the largest int


def keep_freed_memory() -> None:
    """Makes glibc keep freed memory for later allocations; does nothing with other C libraries.

    Each training step frees its activations, and the next one allocates as much again. By default glibc returns the
    memory to the system in between, which then has to map and clear hundreds of pages at every step.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):  # musl has no mallopt
        libc.mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)
        libc.mallopt(M_TRIM_THRESHOLD, NEVER)


def native_precision(accelerator: str) -> str:
    """Picks the default precision for a device: bf16 for matrix products if the device has instructions for it.

    Without such instructions bf16 is emulated, and slower than float32.

    Args:
        accelerator: The accelerator argument of Lightning's Trainer; "auto" means a GPU if there is one.

    Returns:
        `bf16-mixed` or `32-true`.
    """
    if accelerator == "cpu" or not torch.accelerator.is_available():
        native = torch.cpu._is_avx512_bf16_supported()  # every CPU with AMX has these instructions too
    else:
        native = torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16-mixed" if native else "32-true"


@torch.no_grad()
def matmul_dtype(context: AbstractContextManager[Any], weight: Tensor) -> torch.dtype:
    """Returns the dtype in which a run multiplies matrices, by multiplying two in the run's precision.

    Args:
        context: The context in which the run computes, `Trainer.precision_plugin.forward_context()`.
        weight: A parameter of the network, after the precision plugin has converted the network.
    """
    factor = torch.ones(1, 1, dtype=weight.dtype, device=weight.device)
    with context:
        return (factor @ factor).dtype


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error means that memory could not be allocated; on a CPU, torch has no class of its own for it."""
    signs = ("DefaultCPUAllocator", "Storage size calculation overflowed", "array is too big")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(sign in str(error) for sign in signs)
