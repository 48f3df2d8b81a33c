"""What compiling the network costs and saves, and from how many steps it pays."""

import shutil
from functools import partial

from benchmarks.contenders import Bench, fit
from benchmarks.figures import Figures, Row, compare, interleave, not_measured
from benchmarks.machine import precisions


def measure(bench: Bench) -> list[Row]:
    """`fit` eager, compiled with nothing cached, and compiled again."""
    shutil.rmtree(bench.work / "inductor", ignore_errors=True)
    rows = []
    for name, precision in precisions().items():
        eager, cold, warm = (f"{kind}, {name}" for kind in ("eager", "compiled, cold", "compiled, warm"))
        train = partial(timed_fit, bench, "--trainer.precision", precision)
        compiled = partial(train, "--model.compile", "true")
        measured = interleave({eager: train, cold: compiled, warm: compiled}, rounds=1)
        rows += compare(measured, ["step_ms", "start_s"], [(cold, eager), (warm, eager)])
        rows += [pays_from(kind, measured[kind][0], measured[eager][0]) for kind in (cold, warm)]
    return rows


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
    return Row(name, "pays_from_steps", [(compiled["start_s"] - eager["start_s"]) / saved_s])
