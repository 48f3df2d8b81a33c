"""What compiling the network costs and saves, and from how many steps it pays."""

import shutil
from functools import partial
from statistics import median

from benchmarks.contenders import Bench, fit
from benchmarks.figures import Figures, Row, compare, interleave, not_measured
from benchmarks.machine import precisions


def measure(bench: Bench) -> list[Row]:
    """In each precision."""
    return [row for name, precision in precisions().items() for row in of_precision(bench, name, precision)]


def of_precision(bench: Bench, name: str, precision: str) -> list[Row]:
    """`fit` compiled with nothing cached, once; then eager and compiled again, in turns."""
    shutil.rmtree(bench.work / "inductor", ignore_errors=True)
    eager, cold, warm = (f"{kind}, {name}" for kind in ("eager", "compiled, cold", "compiled, warm"))
    train = partial(timed_fit, bench, "--trainer.precision", precision)
    compiled = partial(train, "--model.compile", "true")
    first = interleave({cold: compiled}, rounds=1)
    again = interleave({eager: train, warm: compiled}, bench.sizes.long_rounds)
    rows = compare(first, ["start_s"]) + compare(again, ["step_ms", "start_s"], [(warm, eager)])
    slow, quick = medians(again[eager]), medians(again[warm])
    cold_start = quick | {"start_s": first[cold][0]["start_s"]}
    return [*rows, pays_from(cold, cold_start, slow), pays_from(warm, quick, slow)]


def medians(rounds: list[Figures]) -> Figures:
    """Each figure's median."""
    return {figure: median(of_a_round[figure] for of_a_round in rounds) for figure in rounds[0]}


def timed_fit(bench: Bench, *flags: str) -> Figures:
    """A short run, and what of its time was no step."""
    steps = bench.sizes.steps
    figures = fit(bench, steps, steps, *flags)
    return figures | {"start_s": figures["process_s"] - steps * figures["step_ms"] / 1000}


def pays_from(name: str, compiled: Figures, eager: Figures) -> Row:
    """The number of steps at which both have taken as long."""
    saved_s = (eager["step_ms"] - compiled["step_ms"]) / 1000
    if saved_s <= 0:
        return not_measured(name, "it never pays, its step is no shorter")
    return Row(name, "pays_from_steps", [max(0.0, compiled["start_s"] - eager["start_s"]) / saved_s])
