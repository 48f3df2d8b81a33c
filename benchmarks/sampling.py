"""Samples: the whole process after a short training, and the loop alone where it fits the block and where not."""

import sys
from collections.abc import Callable
from functools import partial

from benchmarks.contenders import OURS, Bench, fit, nanogpt_train, run, timed, worker
from benchmarks.figures import Figures, Row, compare, interleave


def measure(bench: Bench) -> list[Row]:
    """Each side samples from a checkpoint of its own."""
    sizes = bench.sizes
    flags = [f"--num_samples={sizes.samples}", f"--max_new_tokens={sizes.characters[64]}"]  # both sides know them
    fit(bench, sizes.steps, sizes.steps)
    ours = [*OURS, "predict", "--trainer.accelerator", "cpu", "--trainer.default_root_dir", str(bench.work / "ours")]
    contenders: dict[str, Callable[[], Figures]] = {"predict": partial(timed, bench, [*ours, *flags])}
    pairs = [("predict", "nanoGPT's sample.py")]
    if bench.nanogpt:
        nanogpt_train(bench, sizes.steps, sizes.steps)
        contenders["nanoGPT's sample.py"] = partial(nanogpt_sample, bench, flags)
    for block_size, characters in sizes.characters.items():
        loop = partial(
            worker, bench, "sampling_loop", block_size=block_size, samples=sizes.samples, characters=characters
        )
        pairs.append((f"our loop, block {block_size}", f"nanoGPT's loop, block {block_size}"))
        contenders[f"our loop, block {block_size}"] = partial(loop, nanogpt=None)
        if bench.nanogpt:
            contenders[f"nanoGPT's loop, block {block_size}"] = partial(loop, nanogpt=str(bench.nanogpt))
    return compare(interleave(contenders, sizes.rounds), ["process_s", "characters_per_s"], pairs)


def nanogpt_sample(bench: Bench, flags: list[str]) -> Figures:
    """nanoGPT's command. It imports tiktoken, which characters do without: an empty module spares the install."""
    stub = bench.work / "stub"
    stub.mkdir(exist_ok=True)
    (stub / "tiktoken.py").touch()
    command = [sys.executable, "sample.py", f"--out_dir={bench.work / 'nanogpt'}", "--device=cpu", *flags]
    process_s, _ = run(bench, command, cwd=bench.nanogpt, pythonpath=stub)
    return {"process_s": process_s}
