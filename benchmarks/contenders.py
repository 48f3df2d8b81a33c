"""The commands that are compared, each run as a user would: in a process of its own, at a terminal."""

import json
import os
import pty
import re
import shlex
import subprocess
import sys
import termios
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.bench import Bench
from benchmarks.clock import steady_ms
from benchmarks.figures import Figures
from benchmarks.machine import ROOT

CHARGPT = [sys.executable, "-m", "chargpt_lightning"]
NANOGPT_FLAGS = [  # from nanoGPT's README, for a CPU
    *("--device=cpu", "--compile=False", "--eval_iters=20", "--log_interval=1", "--block_size=64", "--batch_size=12"),
    *("--n_layer=4", "--n_head=4", "--n_embd=128", "--lr_decay_iters=2000", "--dropout=0.0"),
]


def fit(bench: Bench, steps: int, eval_interval: int, *flags: str) -> Figures:
    """Trains the recipe with this package, with logs and progress bar."""
    process, times_ms = fit_with_clock(bench, "clock.StepClock", steps, eval_interval, *flags)
    return process | {"step_ms": steady_ms(times_ms, eval_interval)}


def fit_with_clock(bench: Bench, clock: str, steps: int, eval_interval: int, *flags: str) -> tuple[Figures, Any]:
    """Trains with a callback of `benchmarks`; returns the time of the process, and what the callback has written."""
    file = bench.work / "clock.json"
    command = [
        *(*CHARGPT, "fit", "--config", str(ROOT / "configs/shakespeare_char.yaml"), "--trainer.accelerator", "cpu"),
        *("--data.text", str(bench.text), "--trainer.default_root_dir", str(bench.work / "chargpt")),
        *("--trainer.max_steps", str(steps), "--trainer.val_check_interval", str(eval_interval)),
        *("--trainer.callbacks", f"benchmarks.{clock}", "--trainer.callbacks.file", str(file), *flags),
    ]
    return timed(bench, command), json.loads(file.read_text(encoding="utf-8"))


def nanogpt_train(bench: Bench, steps: int, eval_interval: int) -> Figures:
    """Trains nanoGPT's recipe, which makes one update more and on a CPU ignores `--dtype` and computes in float32."""
    sizes = [f"--max_iters={steps}", f"--eval_interval={eval_interval}", f"--out_dir={bench.work / 'nanogpt'}"]
    command = [sys.executable, "train.py", "config/train_shakespeare_char.py", *NANOGPT_FLAGS, *sizes]
    process_s, output = run(bench, command, cwd=bench.nanogpt)
    times_ms = [float(ms) for ms in re.findall(r"^iter \d+: .*time ([\d.]+)ms", output, re.MULTILINE)]
    return {"process_s": process_s, "step_ms": steady_ms(times_ms, eval_interval)}


def nanogpt_base_step_ms(bench: Bench) -> float:
    """Returns the time of a step of nanoGPT's base recipe, 256 characters in batches of 64, on this CPU."""
    flags = ["--device=cpu", "--compile=False", "--eval_iters=1", "--log_interval=1"]
    command = [sys.executable, "train.py", "config/train_shakespeare_char.py", *flags]
    command += ["--max_iters=3", f"--out_dir={bench.work / 'base'}"]
    _, output = run(bench, command, cwd=bench.nanogpt)
    _, *times_ms = re.findall(r"^iter \d+: .*time ([\d.]+)ms", output, re.MULTILINE)  # the first includes an evaluation
    return median(map(float, times_ms))


def timed(bench: Bench, command: list[str]) -> Figures:
    """Runs a command and returns how long the process took."""
    process_s, _ = run(bench, command)
    return {"process_s": process_s}


def worker(bench: Bench, module: str, **settings: Any) -> Figures:
    """Runs a module of `benchmarks.workers` in a process of its own and returns what it measured."""
    _, output = run(bench, [sys.executable, "-m", f"benchmarks.workers.{module}", json.dumps(settings)])
    return json.loads(next(line for line in reversed(output.splitlines()) if line.startswith("{")))


def run(bench: Bench, command: list[str], cwd: Path | None = None, pythonpath: Path = ROOT) -> tuple[float, str]:
    """Runs a command at a pseudo-terminal; returns the seconds that it took, and its output.

    Raises:
        RuntimeError: If the command fails; the message contains its output.
    """
    caches = {"XDG_CACHE_HOME": str(bench.work / "cache"), "TORCHINDUCTOR_CACHE_DIR": str(bench.work / "inductor")}
    env = os.environ | caches | {"PYTHONPATH": str(pythonpath)}
    start_s = time.perf_counter()
    terminal, child_end = pty.openpty()
    termios.tcsetwinsize(child_end, (24, 80))
    with subprocess.Popen(command, cwd=cwd or bench.work, env=env, stdout=child_end, stderr=child_end) as process:
        os.close(child_end)
        output = b"".join(iter(lambda: _read(terminal), b"")).decode()
    elapsed_s = time.perf_counter() - start_s
    os.close(terminal)
    if process.returncode:
        raise RuntimeError(f"{shlex.join(command)} failed with exit code {process.returncode}:\n{output}")
    return elapsed_s, output


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 2**16)
    except OSError:  # how Linux reports that the child has closed its end
        return b""
