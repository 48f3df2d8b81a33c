"""Processes from start to exit: the recipe's training command, and the start-up of the command line."""

import sys
from functools import partial

from benchmarks.bench import Bench
from benchmarks.contenders import CHARGPT, fit, nanogpt_train, timed
from benchmarks.figures import Row, compare, interleave

HELP = "python -m chargpt_lightning fit --help"
IMPORT = 'python -c "import lightning"'


def measure_recipe(bench: Bench) -> list[Row]:
    """Measures `fit` in its default precision and in float32, and nanoGPT's command with as many evaluations."""
    steps, interval = bench.sizes.process_steps, bench.sizes.process_steps // 8
    contenders = {
        "fit, default precision": partial(fit, bench, steps, interval),
        "fit, float32": partial(fit, bench, steps, interval, "--trainer.precision", "32-true"),
    }
    pairs = [(name, "nanoGPT") for name in contenders]
    if bench.nanogpt:
        contenders["nanoGPT"] = partial(nanogpt_train, bench, steps, interval)
    return compare(interleave(contenders, bench.sizes.long_rounds), ["process_s", "step_ms"], pairs)


def measure_startup(bench: Bench) -> list[Row]:
    """Measures `fit --help`, and the import of Lightning, which is the least that it can take."""
    contenders = {
        HELP: partial(timed, bench, [*CHARGPT, "fit", "--help"]),
        IMPORT: partial(timed, bench, [sys.executable, "-c", "import lightning"]),
    }
    return compare(interleave(contenders, bench.sizes.rounds), ["process_s"], [(HELP, IMPORT)])
