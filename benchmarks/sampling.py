"""Sampling after a short training: the whole process, and the loop alone, for samples within and beyond a block."""

import sys
from collections.abc import Callable
from functools import partial

from benchmarks.bench import Bench
from benchmarks.contenders import CHARGPT, fit, nanogpt_train, run, timed, worker
from benchmarks.figures import Figures, Row, compare, interleave


def measure(bench: Bench) -> list[Row]:
    """Compares `predict` and the sampling loop with nanoGPT's; each side samples from a checkpoint that it trained."""
    sizes = bench.sizes
    flags = [f"--num_samples={sizes.samples}", f"--max_new_tokens={sizes.characters[64]}"]  # which both commands accept
    fit(bench, sizes.steps, sizes.steps)
    run_flags = ["--trainer.accelerator", "cpu", "--trainer.default_root_dir", str(bench.work / "chargpt")]
    predict = partial(timed, bench, [*CHARGPT, "predict", *run_flags, *flags])
    contenders: dict[str, Callable[[], Figures]] = {"predict": predict}
    pairs = [("predict", "nanoGPT's sample.py")]
    if bench.nanogpt:
        nanogpt_train(bench, sizes.steps, sizes.steps)
        contenders["nanoGPT's sample.py"] = partial(nanogpt_sample, bench, flags)
    for block_size, characters in sizes.characters.items():
        sampling = {"block_size": block_size, "samples": sizes.samples, "characters": characters}
        loop = partial(worker, bench, "sampling_loop", **sampling)
        pairs.append((f"sampling loop, block {block_size}", f"nanoGPT's loop, block {block_size}"))
        contenders[f"sampling loop, block {block_size}"] = partial(loop, nanogpt=None)
        if bench.nanogpt:
            contenders[f"nanoGPT's loop, block {block_size}"] = partial(loop, nanogpt=str(bench.nanogpt))
    return compare(interleave(contenders, sizes.rounds), ["process_s", "characters_per_s"], pairs)


def nanogpt_sample(bench: Bench, flags: list[str]) -> Figures:
    """Runs nanoGPT's command; an empty module stands in for tiktoken, which it imports but does not use here."""
    stub = bench.work / "stub"
    stub.mkdir(exist_ok=True)
    (stub / "tiktoken.py").touch()
    command = [sys.executable, "sample.py", f"--out_dir={bench.work / 'nanogpt'}", "--device=cpu", *flags]
    process_s, _ = run(bench, command, cwd=bench.nanogpt, pythonpath=stub)
    return {"process_s": process_s}
