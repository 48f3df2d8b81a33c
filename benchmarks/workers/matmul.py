"""The rate at which this machine multiplies matrices, in GFLOP/s."""

import json
import sys
import time
from statistics import median

import torch

from benchmarks.figures import Figures

SQUARE = [(2048, 2048, 2048)]  # large enough to reach the machine's best rate
RECIPE = [(768, 128, 384), (768, 128, 128), (768, 128, 512), (768, 512, 128)]  # a block's forward pass; 768 is 12 x 64
DTYPES = {"32-true": torch.float32, "bf16-mixed": torch.bfloat16}


def measure(precision: str, repetitions: int) -> Figures:
    """Measures the rate of a large square product, and that of the products in the recipe's network."""
    dtype = DTYPES[precision]
    return {
        "square_gflop_per_s": rate(SQUARE, dtype, repetitions),
        "recipe_gflop_per_s": rate(RECIPE, dtype, 20 * repetitions),
    }


def rate(shapes: list[tuple[int, int, int]], dtype: torch.dtype, repetitions: int) -> float:
    """Returns the GFLOP/s of the products (M, K) x (K, N), computed one after another, at their median time."""
    factors = [(torch.randn(m, k, dtype=dtype), torch.randn(k, n, dtype=dtype)) for m, k, n in shapes]
    times_s = []
    for _ in range(repetitions):
        start_s = time.perf_counter()
        for left, right in factors:
            left @ right
        times_s.append(time.perf_counter() - start_s)
    return sum(2 * m * k * n for m, k, n in shapes) / median(times_s) / 1e9


if __name__ == "__main__":
    print(json.dumps(measure(**json.loads(sys.argv[1]))))
