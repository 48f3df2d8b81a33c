"""The whole process of the recipe, imports and evaluations included."""

from functools import partial

from benchmarks.contenders import Bench, fit, nanogpt_train
from benchmarks.figures import Row, compare, interleave


def measure(bench: Bench) -> list[Row]:
    """Our command as the recipe has it, and in float32, beside nanoGPT's; each evaluates as often."""
    steps, interval = bench.sizes.process_steps, bench.sizes.process_steps // 8
    contenders = {
        "fit, as the recipe has it": partial(fit, bench, steps, interval),
        "fit, float32": partial(fit, bench, steps, interval, "--trainer.precision", "32-true"),
    }
    pairs = [(name, "nanoGPT") for name in contenders]
    if bench.nanogpt:
        contenders["nanoGPT"] = partial(nanogpt_train, bench, steps, interval)
    return compare(interleave(contenders, bench.sizes.long_rounds), ["process_s", "step_ms"], pairs)
