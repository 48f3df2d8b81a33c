"""What a step costs as text, batch, width and block size grow, in float32, and how fast a text is read."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.contenders import Bench, worker
from benchmarks.figures import Figures, Row, compare, interleave, not_measured

RECIPE = {"batch_size": 12, "n_embd": 128, "block_size": 64}
FIGURES = ["read_mb_per_s", "step_ms", "peak_mib"]
STEPS = 20


def measure(bench: Bench) -> list[Row]:
    """Texts first, then the recipe and what is larger than it."""
    rows = [row for size_mb in bench.sizes.texts_mb for row in of_text(bench, size_mb)]
    loop = partial(worker, bench, "loop", text=str(bench.text), steps=STEPS)
    contenders: dict[str, Callable[[], Figures]] = {"the recipe": loop}
    for name, start in RECIPE.items():
        for doubling in range(1, bench.sizes.doublings + 1):
            size = start * 2**doubling
            contenders[f"{name} {size}"] = partial(loop, **{name: size})
    pairs = [(name, "the recipe") for name in contenders if name != "the recipe"]
    return rows + compare(interleave(contenders, bench.sizes.rounds), FIGURES[1:], pairs)


def of_text(bench: Bench, size_mb: int) -> list[Row]:
    """A text of this size, read for the first time and again."""
    shutil.rmtree(bench.work / "cache", ignore_errors=True)  # what was read before
    first, again = f"text of {size_mb} MB, first", f"text of {size_mb} MB, again"
    if shutil.disk_usage(bench.work).free < 4 * size_mb * 10**6:  # beside the text there may be its encoding
        return [not_measured(first, "the disk has no room")]
    text = bench.work / "growing.txt"
    repeat(bench.text, text, size_mb * 10**6)
    read = partial(worker, bench, "loop", text=str(text), steps=STEPS)
    try:
        return compare(interleave({first: read, again: read}, rounds=1), FIGURES, [(again, first)])
    except RuntimeError as error:  # what a machine cannot hold is a result
        return [not_measured(first, str(error).splitlines()[-1])]
    finally:
        text.unlink()


def repeat(text: Path, longer: Path, size: int) -> None:
    """Writes a text again and again, until there are at least so many bytes."""
    content = text.read_bytes()
    with longer.open("wb") as file:
        while file.tell() < size:
            file.write(content)
