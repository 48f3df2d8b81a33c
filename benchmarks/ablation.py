"""What each ingredient of the fast recipe is worth: its exact loss and its step with one of them changed."""

from collections.abc import Callable
from itertools import count, islice

from benchmarks.contenders import Bench, worker
from benchmarks.figures import Figures, Row, compare, interleave
from benchmarks.workers.ablation import CHANGES


def measure(bench: Bench) -> list[Row]:
    """At the recipe's length, a seed each round; and once at nanoGPT's number of updates, and of windows in each."""
    names = list(islice(CHANGES, bench.sizes.changes))
    short = {name: changed(bench, name, bench.sizes.fast_steps, 16) for name in names}
    long = {f"{name}, long": changed(bench, name, bench.sizes.process_steps, 12) for name in names}
    pairs = [(name, "nothing") for name in short] + [(name, "nothing, long") for name in long]
    measured = interleave(short, bench.sizes.rounds) | interleave(long, rounds=1)
    return compare(measured, ["val_loss", "step_ms"], pairs)


def changed(bench: Bench, name: str, steps: int, batch_size: int) -> Callable[[], Figures]:
    """Trains with this change, with another seed each time."""
    seeds = count()
    settings = {"text": str(bench.text), "change": name, "steps": steps, "batch_size": batch_size}
    return lambda: worker(bench, "ablation", seed=next(seeds), **settings)
