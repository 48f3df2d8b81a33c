"""The recipes of the ladder with one ingredient changed: exact loss and step time."""

from collections.abc import Callable
from itertools import count, islice

from benchmarks.bench import Bench
from benchmarks.contenders import worker
from benchmarks.figures import Figures, Row, compare, interleave
from benchmarks.ladder import RUNGS
from benchmarks.workers.ablation import CHANGES, INGREDIENTS

FAST, BETTER, BEST = RUNGS
FEW = ("nothing", "no_n_grams", "no_dropout_of_n_grams")  # measured with the best recipe, which takes minutes


def measure(bench: Bench) -> list[Row]:
    """Measures exact loss and step time with one ingredient changed.

    Each change is measured with the fast recipe, with another seed in each round; each that replaces an ingredient of
    the recipes once with the better recipe, and the most important ones once with the best.
    """
    names = list(islice(CHANGES, bench.sizes.changes))
    short = {f"{name}, fast": changed(bench, name, FAST) for name in names}
    long = {f"{name}, better": changed(bench, name, BETTER) for name in names if name in INGREDIENTS}
    long |= {f"{name}, best": changed(bench, name, BEST) for name in FEW if name in names}
    pairs = [(name, f"nothing, {name.split(', ')[1]}") for name in short | long]
    measured = interleave(short, bench.sizes.long_rounds) | interleave(long, rounds=1)
    return compare(measured, ["val_loss", "step_ms"], pairs)


def changed(bench: Bench, name: str, recipe: str) -> Callable[[], Figures]:
    """Returns a function that trains a recipe with this change, with the next seed in each call."""
    seeds = count()
    settings = {"text": str(bench.text), "recipe": recipe, "change": name, "steps": bench.sizes.rung_steps}
    return lambda: worker(bench, "ablation", seed=next(seeds), **settings)
