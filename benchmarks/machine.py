"""Describes the machine: processor, threads, versions, commit."""

import os
import platform
import re
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch

from chargpt_lightning.utils.hardware import native_precision

ROOT = Path(__file__).parent.parent


def precisions() -> dict[str, str]:
    """Returns Lightning's names of the precisions to measure; bf16 only where the CPU does not emulate it."""
    return {"float32": "32-true"} | ({"bf16": "bf16-mixed"} if native_precision("cpu") == "bf16-mixed" else {})


def describe() -> dict[str, str | float]:
    """Returns the machine, the software and the command, which are saved with the figures."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count() or 1,
        "load": os.getloadavg()[0],  # before anything is measured, to show whether other programs were running
        "threads": torch.get_num_threads(),
        "native_bf16": "bf16" in precisions(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "lightning": version("lightning"),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "command": shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]]),
    }


def _cpu() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", cpuinfo.read_text(encoding="utf-8")) if cpuinfo.exists() else None
    return found[1] if found else platform.processor()


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
