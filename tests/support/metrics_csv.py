"""A long metrics.csv, and how much memory it takes to read."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path

RUN = Path("runs/version_0")
CSV = RUN / "metrics.csv"
COLUMNS = ["lr", "step", "train/loss", "val/loss"]


def write_long_file(updates: int) -> None:
    """An evaluation every thousand updates, the best at update 1234."""
    RUN.mkdir(parents=True, exist_ok=True)
    with CSV.open("w", encoding="utf-8") as file:
        file.write("lr,step,train/loss,val/loss\n")
        for step in range(updates):
            file.write(f"0.001,{step},{1 + 1 / (step + 1)},\n")
            if step % 1000 == 234:
                file.write(f",{step},,{1.5 if step == 1234 else 2.5}\n")


def peak_mb(work: Callable[[], object]) -> float:
    """The most memory that Python's objects take while this works."""
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 2**20
