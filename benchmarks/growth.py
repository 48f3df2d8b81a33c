"""Step time and memory as text, batch, width and block size grow, in float32, and how fast a text is read."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.contenders import worker
from benchmarks.figures import Figures, Row, compare, interleave, not_measured

RECIPE = {"batch_size": 12, "n_embd": 128, "block_size": 64}
FIGURES = ["step_ms", "peak_mib"]


def measure(bench: Bench) -> list[Row]:
    """Measures larger texts, then larger networks."""
    return measure_texts(bench) + measure_networks(bench)


def measure_texts(bench: Bench) -> list[Row]:
    """Measures texts of several sizes: read once with an empty cache, then several times with their ids cached."""
    shutil.rmtree(bench.work / "cache", ignore_errors=True)
    sizes = {f"text of {size_mb:,} MB": size_mb for size_mb in bench.sizes.texts_mb}
    limit_mb = shutil.disk_usage(bench.work).free / 1e6 / 3  # the cached ids need disk space too
    texts = {name: bench.work / f"{size_mb}.txt" for name, size_mb in sizes.items() if size_mb < limit_mb}
    for name, text in texts.items():
        repeat(bench.text, text, sizes[name] * 10**6)
    loops = {name: partial(worker, bench, "training_loop", text=str(text)) for name, text in texts.items()}
    first = interleave({f"{name}, first": partial(loop, steps=20) for name, loop in loops.items()}, rounds=1)
    again = interleave(
        {name: partial(loop, steps=bench.sizes.steps) for name, loop in loops.items()}, bench.sizes.long_rounds
    )
    for text in texts.values():
        text.unlink()
    smallest, *others = texts
    missing = [not_measured(name, "not enough disk space") for name in sizes if name not in texts]
    rows = compare(first, ["read_mb_per_s"]) + compare(again, ["read_mb_per_s"])
    return rows + compare(again, FIGURES, [(other, smallest) for other in others]) + missing


def measure_networks(bench: Bench) -> list[Row]:
    """Measures the recipe, and networks with twice and four times its batch, width or block size."""
    loop = partial(worker, bench, "training_loop", text=str(bench.text), steps=bench.sizes.steps // 2)
    contenders: dict[str, Callable[[], Figures]] = {"the recipe": loop}
    for name, start in RECIPE.items():
        for doubling in range(1, bench.sizes.doublings + 1):
            size = start * 2**doubling
            contenders[f"{name} {size}"] = partial(loop, **{name: size})
    pairs = [(name, "the recipe") for name in contenders if name != "the recipe"]
    return compare(interleave(contenders, bench.sizes.long_rounds), FIGURES, pairs)


def repeat(text: Path, longer: Path, size: int) -> None:
    """Writes copies of a text one after another, until the file has at least `size` bytes."""
    content = text.read_bytes()
    with longer.open("wb") as file:
        while file.tell() < size:
            file.write(content)
