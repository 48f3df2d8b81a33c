"""The fast recipe: its command beside nanoGPT's, the exact loss of each seed, and what each ingredient contributes."""

import re
from collections.abc import Callable
from functools import partial
from itertools import count, islice

from benchmarks.bench import Bench
from benchmarks.contenders import CHARGPT, nanogpt_train, run, timed, worker
from benchmarks.figures import Figures, Row, compare, interleave
from benchmarks.machine import ROOT
from benchmarks.workers.ablation import CHANGES


def measure(bench: Bench) -> list[Row]:
    """Measures both commands from start to saved checkpoint, then the exact loss of each seed."""
    steps = bench.sizes.process_steps
    contenders = {"fit, fast": partial(fit, bench, 1337)}
    if bench.nanogpt:
        contenders["nanoGPT"] = partial(nanogpt_train, bench, steps, steps // 8)
    processes = interleave(contenders, bench.sizes.long_rounds)
    losses = [loss(bench, seed) for seed in range(bench.sizes.seeds)]
    return [
        *compare(processes, ["process_s"], [("fit, fast", "nanoGPT")]),
        Row(f"fit, fast, seeds 0 to {len(losses) - 1}", "val_loss", losses),
    ]


def fit(bench: Bench, seed: int) -> Figures:
    """Runs the command with the recipe's own settings."""
    config = str(ROOT / "configs/shakespeare_char_fast.yaml")
    settings = ["--data.text", str(bench.text), "--seed_everything", str(seed), *_run_flags(bench)]
    return timed(bench, [*CHARGPT, "fit", "--config", config, *settings])


def loss(bench: Bench, seed: int) -> float:
    """Returns the exact val loss after training with this seed."""
    fit(bench, seed)
    _, output = run(bench, [*CHARGPT, "validate", *_run_flags(bench)])
    (figure,) = re.findall(r"^loss: ([\d.]+)", output, re.MULTILINE)
    return float(figure)


def measure_changes(bench: Bench) -> list[Row]:
    """Measures exact loss and step time with one ingredient changed.

    Each change is measured at the fast recipe's length, with another seed in each round, and once with nanoGPT's number
    of updates and batch size.
    """
    names = list(islice(CHANGES, bench.sizes.changes))
    short = {name: changed(bench, name, bench.sizes.fast_steps, 16) for name in names}
    long = {f"{name}, long": changed(bench, name, bench.sizes.process_steps, 12) for name in names}
    pairs = [(name, "nothing") for name in short] + [(name, "nothing, long") for name in long]
    measured = interleave(short, bench.sizes.rounds) | interleave(long, rounds=1)
    return compare(measured, ["val_loss", "step_ms"], pairs)


def changed(bench: Bench, name: str, steps: int, batch_size: int) -> Callable[[], Figures]:
    """Returns a function that trains with this change, with the next seed in each call."""
    seeds = count()
    settings = {"text": str(bench.text), "change": name, "steps": steps, "batch_size": batch_size}
    return lambda: worker(bench, "ablation", seed=next(seeds), **settings)


def _run_flags(bench: Bench) -> list[str]:
    return ["--trainer.accelerator", "cpu", "--trainer.default_root_dir", str(bench.work / "fast")]
