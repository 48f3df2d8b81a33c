"""The fast recipe: its whole process beside nanoGPT's command, and the exact loss of each of its seeds."""

import re
from functools import partial

from benchmarks.contenders import OURS, Bench, nanogpt_train, run, timed
from benchmarks.figures import Figures, Row, compare, interleave
from benchmarks.machine import ROOT


def measure(bench: Bench) -> list[Row]:
    """From the start of the process to the saved checkpoint, in turns; then seeds from 0 on."""
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
    """The command, as the recipe has it."""
    config = str(ROOT / "configs/shakespeare_char_fast.yaml")
    settings = ["--data.text", str(bench.text), "--seed_everything", str(seed), *_runs(bench)]
    return timed(bench, [*OURS, "fit", "--config", config, *settings])


def loss(bench: Bench, seed: int) -> float:
    """The exact val loss that the recipe ends at."""
    fit(bench, seed)
    _, said = run(bench, [*OURS, "validate", *_runs(bench)])
    (figure,) = re.findall(r"^loss: ([\d.]+)", said, re.MULTILINE)
    return float(figure)


def _runs(bench: Bench) -> list[str]:
    return ["--trainer.accelerator", "cpu", "--trainer.default_root_dir", str(bench.work / "fast")]
