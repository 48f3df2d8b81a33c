"""How this process's memory is kept, for the CPU's sake."""

import ctypes
import sys

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
