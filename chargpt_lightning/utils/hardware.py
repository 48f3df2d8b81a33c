"""How this process's memory is kept, for the CPU's sake."""

import ctypes
import sys
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's <malloc.h>
LARGEST_MMAP_THRESHOLD = 2**25  # that glibc takes
NEVER = 2**31 - 1


def keep_freed_memory() -> None:
    """Keeps what is freed for what is asked for next, where glibc is the C library.

    A training step frees its activations and asks for them again. By default glibc hands them back to the system in
    between, which maps and clears hundreds of pages anew at every step.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):  # musl has none
        libc.mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)
        libc.mallopt(M_TRIM_THRESHOLD, NEVER)


def native_precision(accelerator: str) -> str:
    """The fastest that loses no accuracy: bf16 for the matrix products where the device has instructions for it.

    Without them bf16 is emulated, and slower than float32.

    Args:
        accelerator: As Lightning's Trainer takes it; "auto" is a GPU if there is one.

    Returns:
        `bf16-mixed` or `32-true`.
    """
    if accelerator == "cpu" or not torch.accelerator.is_available():
        capabilities = torch.cpu.get_capabilities()
        native = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")
    else:
        native = torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16-mixed" if native else "32-true"


@torch.no_grad()
def product_dtype(context: AbstractContextManager[Any], weight: Tensor) -> torch.dtype:
    """The dtype in which a run multiplies matrices, read off a product that is computed as the run computes.

    Args:
        context: In which the run computes, `Trainer.precision_plugin.forward_context()`.
        weight: One of the network's parameters, after the precision has converted the network.
    """
    factor = torch.ones(1, 1, dtype=weight.dtype, device=weight.device)
    with context:
        return (factor @ factor).dtype
