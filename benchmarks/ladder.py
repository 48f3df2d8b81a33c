"""The ladder: the loss that each recipe reaches and the time that it takes, with seeds it was not tuned with."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.contenders import CHARGPT, nanogpt_base_step_ms, nanogpt_train, run
from benchmarks.figures import Figures, Row
from benchmarks.machine import ROOT, precisions

NANOGPT = "nanoGPT's CPU recipe"
NANOGPT_BASE = "nanoGPT's base recipe, computed"
BASE_UPDATES = 1750  # after which the base recipe has its best val loss, by its own estimate
BASE_LOSS = 1.4697
RUNGS = ("shakespeare_char_fast", "shakespeare_char_better", "shakespeare_char_best")
SECTIONS = ("nanogpt", *RUNGS)
FIRST_SEED = 1001  # no recipe was tuned with this seed or a later one


def measure_nanogpt(bench: Bench) -> Iterator[Row]:
    """Measures nanoGPT's CPU recipe, and computes from a step of its base recipe how long that takes on this CPU."""
    if bench.nanogpt:
        folder = bench.nanogpt / "data/shakespeare_char"  # has the alphabet of nanoGPT's checkpoint
        steps = bench.sizes.process_steps
        processes_s = [nanogpt_train(bench, steps, steps // 8)["process_s"] for _ in range(bench.sizes.long_rounds)]
        yield Row(NANOGPT, "process_s", processes_s)
        yield Row(NANOGPT, "val_loss", [exact_loss(bench, bench.work / "nanogpt/ckpt.pt", folder)])
        yield Row(NANOGPT_BASE, "process_s", [nanogpt_base_step_ms(bench) * BASE_UPDATES / 1000])
        yield Row(NANOGPT_BASE, "val_loss", [BASE_LOSS])


def measure(bench: Bench, recipe: str) -> Iterator[Row]:
    """Measures a recipe with each seed: its process, exact val loss and last train loss.

    The last recipe is measured in the default precision alone, because it takes minutes.
    """
    available = list(precisions().items())
    for name, precision in available[-1:] if recipe == RUNGS[-1] else available:
        seeds = range(FIRST_SEED, FIRST_SEED + bench.sizes.seeds[recipe])
        runs = [fit(bench, recipe, precision, seed) for seed in seeds]
        for figure in ("process_s", "val_loss", "train_loss"):
            yield Row(f"{recipe}, {name}", figure, [measured[figure] for measured in runs])


def fit(bench: Bench, recipe: str, precision: str, seed: int) -> Figures:
    """Runs the recipe's command with its own settings, then `validate` on the checkpoint that it keeps."""
    print(f"{recipe}, {precision}, seed {seed}", file=sys.stderr)
    directory = bench.work / f"{recipe}-{precision}-{seed}"
    command = [*CHARGPT, "fit", "--config", str(ROOT / f"configs/{recipe}.yaml"), "--trainer.accelerator", "cpu"]
    settings = ["--trainer.precision", precision, "--seed_everything", str(seed), "--data.text", str(bench.text)]
    if steps := bench.sizes.rung_steps:
        settings += ["--trainer.max_steps", str(steps), "--trainer.val_check_interval", str(steps)]
    process_s, output = run(bench, [*command, *settings, "--trainer.default_root_dir", str(directory)])
    train_loss = re.findall(r"step \d+: train loss ([\d.]+)", output)[-1]
    return {
        "process_s": process_s,
        "val_loss": exact_loss(bench, directory / "version_0", bench.text),
        "train_loss": float(train_loss),
    }


def exact_loss(bench: Bench, checkpoint: Path, text: Path) -> float:
    """Returns the loss over the entire val split, as `validate` prints it."""
    where = ["--ckpt_path", str(checkpoint), "--data.text", str(text)]
    _, output = run(bench, [*CHARGPT, "validate", *where, "--trainer.accelerator", "cpu"])
    (loss,) = re.findall(r"^loss: ([\d.]+)", output, re.MULTILINE)
    return float(loss)
