"""A training step of the recipe: `fit`, nanoGPT, a bare loop, Hugging Face's network; and the rate of the machine."""

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec

from benchmarks import trainer_part
from benchmarks.bench import Bench
from benchmarks.contenders import fit, nanogpt_train, worker
from benchmarks.figures import Figures, Measured, Row, compare, interleave, not_measured
from benchmarks.machine import precisions

TRAINER, BARE = "a step with the Trainer", "a bare step in the same process"
RATES = ["square_gflop_per_s", "recipe_gflop_per_s", "share_of_square_rate"]


def measure(bench: Bench) -> list[Row]:
    """Compares step times, and lists rates without a rival."""
    measured = interleave(contenders(bench), bench.sizes.rounds)
    add_shares(measured)
    pairs = []
    for name in precisions():
        trainer, bare = f"{TRAINER}, {name}", f"{BARE}, {name}"
        measured[bare] = [{"step_ms": figures["bare_step_ms"]} for figures in measured[trainer]]
        pairs += [(f"fit, {name}", "nanoGPT"), (trainer, bare), (f"bare loop, {name}", f"Hugging Face, {name}")]
    missing = [] if find_spec("transformers") else [not_measured("Hugging Face", "transformers is not installed")]
    return compare(measured, ["step_ms"], pairs) + compare(measured, RATES) + missing


def contenders(bench: Bench) -> dict[str, Callable[[], Figures]]:
    """Returns the contenders that are installed; they evaluate at both ends of a run, where no step is timed."""
    steps = bench.sizes.steps
    loop = partial(worker, bench, "training_loop", text=str(bench.text), steps=steps)
    found: dict[str, Callable[[], Figures]] = {}
    for name, precision in precisions().items():
        found[f"matrix products, {name}"] = partial(
            worker, bench, "matmul", precision=precision, repetitions=bench.sizes.products
        )
        found[f"fit, {name}"] = partial(fit, bench, steps, steps, "--trainer.precision", precision)
        found[f"{TRAINER}, {name}"] = partial(trainer_part.measure, bench, precision)
        found[f"bare loop, {name}"] = partial(loop, precision=precision)
        if find_spec("transformers"):
            found[f"Hugging Face, {name}"] = partial(loop, precision=precision, hugging_face=True)
    if bench.nanogpt:
        found["nanoGPT"] = partial(nanogpt_train, bench, steps, steps)
    return found


def add_shares(measured: Measured) -> None:
    """Adds the share that each step reaches of the machine's rate of matrix products in the same precision.

    The operations of a step are those of this package's network, for all contenders.
    """
    for name, rounds in measured.items():
        precision = "bf16" if name.endswith("bf16") else "float32"  # nanoGPT uses float32 on a CPU
        products, loops = measured[f"matrix products, {precision}"], measured["bare loop, float32"]
        for figures, product, loop in zip(rounds, products, loops, strict=True):
            if "step_ms" in figures:
                reached = loop["step_gflop"] / (figures["step_ms"] / 1000)
                figures["share_of_square_rate"] = reached / product["square_gflop_per_s"]
