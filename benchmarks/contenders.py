"""The commands of both sides, each in a process of its own at a terminal, as a user has them."""

import json
import os
import pty
import re
import shlex
import subprocess
import sys
import termios
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.clock import steady_ms
from benchmarks.figures import Figures
from benchmarks.machine import ROOT
from benchmarks.sizes import Sizes

OURS = [sys.executable, "-m", "chargpt_lightning"]
NANOGPT_FLAGS = [  # of its README, for a CPU
    *("--device=cpu", "--compile=False", "--eval_iters=20", "--log_interval=1", "--block_size=64", "--batch_size=12"),
    *("--n_layer=4", "--n_head=4", "--n_embd=128", "--lr_decay_iters=2000", "--dropout=0.0"),
]


@dataclass(frozen=True)
class Bench:
    """What all sections share."""

    work: Path  # a directory that is deleted at the end
    text: Path  # a file in it
    nanogpt: Path | None  # a checkout with data/shakespeare_char prepared
    sizes: Sizes


def fit(bench: Bench, steps: int, eval_interval: int, *flags: str) -> Figures:
    """Our recipe, with log and progress line."""
    clock = bench.work / "clock.json"
    command = [
        *(*OURS, "fit", "--config", str(ROOT / "configs/shakespeare_char.yaml"), "--trainer.accelerator", "cpu"),
        *("--data.text", str(bench.text), "--trainer.default_root_dir", str(bench.work / "ours")),
        *("--trainer.max_steps", str(steps), "--trainer.val_check_interval", str(eval_interval)),
        *("--trainer.callbacks", "benchmarks.clock.StepClock", "--trainer.callbacks.file", str(clock), *flags),
    ]
    return timed(bench, command) | {"step_ms": steady_ms(json.loads(clock.read_text(encoding="utf-8")), eval_interval)}


def nanogpt_train(bench: Bench, steps: int, eval_interval: int) -> Figures:
    """nanoGPT's recipe. It makes one update more, and computes in float32 on a CPU whatever its --dtype says."""
    sizes = [f"--max_iters={steps}", f"--eval_interval={eval_interval}", f"--out_dir={bench.work / 'nanogpt'}"]
    command = [sys.executable, "train.py", "config/train_shakespeare_char.py", *NANOGPT_FLAGS, *sizes]
    process_s, said = run(bench, command, cwd=bench.nanogpt)
    times_ms = [float(ms) for ms in re.findall(r"^iter \d+: .*time ([\d.]+)ms", said, re.MULTILINE)]
    return {"process_s": process_s, "step_ms": steady_ms(times_ms, eval_interval)}


def timed(bench: Bench, command: list[str]) -> Figures:
    """What a command takes from its start to its end."""
    process_s, _ = run(bench, command)
    return {"process_s": process_s}


def worker(bench: Bench, module: str, **settings: Any) -> Figures:
    """What a module of this package measures in a process of its own."""
    _, said = run(bench, [sys.executable, "-m", f"benchmarks.workers.{module}", json.dumps(settings)])
    return json.loads(next(line for line in reversed(said.splitlines()) if line.startswith("{")))


def run(bench: Bench, command: list[str], cwd: Path | None = None, pythonpath: Path = ROOT) -> tuple[float, str]:
    """Gives the seconds that a command took, and what it wrote.

    Raises:
        RuntimeError: If it fails, with what it wrote.
    """
    caches = {"XDG_CACHE_HOME": str(bench.work / "cache"), "TORCHINDUCTOR_CACHE_DIR": str(bench.work / "inductor")}
    env = os.environ | caches | {"PYTHONPATH": str(pythonpath)}
    start_s = time.perf_counter()
    terminal, its_end = pty.openpty()
    termios.tcsetwinsize(its_end, (24, 80))
    with subprocess.Popen(command, cwd=cwd or bench.work, env=env, stdout=its_end, stderr=its_end) as process:
        os.close(its_end)
        said = b"".join(iter(lambda: _read(terminal), b"")).decode()
    elapsed_s = time.perf_counter() - start_s
    os.close(terminal)
    if process.returncode:
        raise RuntimeError(f"{shlex.join(command)} ended with {process.returncode}:\n{said}")
    return elapsed_s, said


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 2**16)
    except OSError:  # Linux's word for the end of a terminal
        return b""
