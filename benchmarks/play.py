"""The page of `play`: how long until it can be opened, and how fast a text is written on it."""

import sys
from dataclasses import replace
from functools import partial
from importlib.util import find_spec

from benchmarks.bench import Bench
from benchmarks.contenders import CHARGPT, timed, worker
from benchmarks.figures import Figures, Row, compare, interleave, not_measured
from benchmarks.ladder import FIRST_SEED, RUNGS, fit
from benchmarks.processes import IMPORT

PAGE = "the page of play"
TEXTS = 5  # on the page, one after the other; `predict` writes as much in one


def measure(bench: Bench) -> list[Row]:
    """Compares the page's start with the import of Lightning, and its speed of writing with that of `predict`."""
    if find_spec("gradio") is None:
        return [not_measured(PAGE, "Gradio is not installed")]
    contenders = {IMPORT: partial(import_lightning, bench)}
    for recipe in (RUNGS[0], RUNGS[-1]):  # the quickest network and the slowest
        run = trained(bench, recipe)
        contenders[f"{PAGE}, {recipe}"] = partial(
            worker, bench, "page", run=run, characters=bench.sizes.written, texts=TEXTS
        )
        contenders[f"predict, {recipe}"] = partial(predict, bench, run)
    measured = interleave(contenders, bench.sizes.rounds)
    pages = [name for name in contenders if name.startswith(PAGE)]
    rows = compare(measured, ["start_s"], [(page, IMPORT) for page in pages])
    return rows + compare(measured, ["characters_per_s"], [(page, page.replace(PAGE, "predict")) for page in pages])


def import_lightning(bench: Bench) -> Figures:
    """Imports Lightning in a process of its own, the least that the start can take."""
    return {"start_s": timed(bench, [sys.executable, "-c", "import lightning"])["process_s"]}


def trained(bench: Bench, recipe: str) -> str:
    """Trains a recipe for two updates, as the speed does not depend on the weights; returns the run's directory."""
    short = replace(bench, sizes=replace(bench.sizes, rung_steps=2))
    fit(short, recipe, "32-true", FIRST_SEED)
    return f"{recipe}-32-true-{FIRST_SEED}/version_0"


def predict(bench: Bench, run: str) -> Figures:
    """Writes a text with `predict`; the rate is without the start of the process, and without the first character."""
    flags = ["--ckpt_path", run, "--trainer.accelerator", "cpu", "--sample.num_samples=1"]
    characters = TEXTS * bench.sizes.written
    first_s, all_s = (
        timed(bench, [*CHARGPT, "predict", *flags, f"--sample.max_new_tokens={length}"])["process_s"]
        for length in (1, characters)
    )
    return {"characters_per_s": (characters - 1) / (all_s - first_s)}
