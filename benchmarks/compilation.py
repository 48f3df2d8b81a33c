"""Compilation of the network: start-up time, step time, and the number of steps after which it saves time."""

import shutil
from functools import partial
from statistics import median

from benchmarks.bench import Bench
from benchmarks.contenders import fit
from benchmarks.figures import Figures, Row, compare, interleave, not_measured
from benchmarks.machine import precisions


def measure(bench: Bench) -> list[Row]:
    """Compares compiled and eager training in each precision."""
    return [row for name, precision in precisions().items() for row in measure_precision(bench, name, precision)]


def measure_precision(bench: Bench, name: str, precision: str) -> list[Row]:
    """Measures `fit` compiled with an empty cache, once; then eager and compiled with a full cache."""
    shutil.rmtree(bench.work / "inductor", ignore_errors=True)
    eager, cold, warm = (f"{kind}, {name}" for kind in ("eager", "compiled, cold", "compiled, warm"))
    train = partial(timed_fit, bench, "--trainer.precision", precision)
    compiled = partial(train, "--model.compile", "true")
    first = interleave({cold: compiled}, rounds=1)
    again = interleave({eager: train, warm: compiled}, bench.sizes.long_rounds)
    rows = compare(first, ["start_s"]) + compare(again, ["step_ms", "start_s"], [(warm, eager)])
    slow, quick = medians(again[eager]), medians(again[warm])
    cold_start = quick | {"start_s": first[cold][0]["start_s"]}
    return [*rows, break_even(cold, cold_start, slow), break_even(warm, quick, slow)]


def medians(rounds: list[Figures]) -> Figures:
    """Returns the median of each figure."""
    return {figure: median(of_a_round[figure] for of_a_round in rounds) for figure in rounds[0]}


def timed_fit(bench: Bench, *flags: str) -> Figures:
    """Trains a short run; adds the time that was not spent in steps."""
    steps = bench.sizes.steps
    figures = fit(bench, steps, steps, *flags)
    return figures | {"start_s": figures["process_s"] - steps * figures["step_ms"] / 1000}


def break_even(name: str, compiled: Figures, eager: Figures) -> Row:
    """Returns the number of steps after which compiled and eager training have taken the same time."""
    saved_s = (eager["step_ms"] - compiled["step_ms"]) / 1000
    if saved_s <= 0:
        return not_measured(name, "it never pays, because the compiled step is not faster")
    return Row(name, "pays_from_steps", [max(0.0, compiled["start_s"] - eager["start_s"]) / saved_s])
