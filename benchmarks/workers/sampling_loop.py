"""The sampling loop alone, without start-up, in float32: characters per second."""

import json
import sys
import time
from importlib import import_module
from typing import Any

import torch

from benchmarks.figures import Figures
from chargpt_lightning import GPT, GPTConfig
from chargpt_lightning.sampling.config import SampleConfig
from chargpt_lightning.sampling.generation import generate

SHAPE: dict[str, Any] = {"vocab_size": 65, "n_layer": 4, "n_head": 4, "n_embd": 128, "dropout": 0.0, "bias": False}


def measure(nanogpt: str | None, block_size: int, samples: int, characters: int) -> Figures:
    """Samples from an untrained network of the recipe's size, which takes as long as from a trained one."""
    if nanogpt is None:
        network, draw = GPT(GPTConfig(block_size=block_size, **SHAPE)), draw_in_a_batch
    else:
        sys.path.insert(0, nanogpt)
        model = import_module("model")
        network, draw = model.GPT(model.GPTConfig(block_size=block_size, **SHAPE)), draw_one_by_one
    network.eval()
    start_s = time.perf_counter()
    draw(network, samples, characters)
    return {"characters_per_s": samples * characters / (time.perf_counter() - start_s)}


def draw_in_a_batch(network: GPT, samples: int, characters: int) -> None:
    """Samples as this package does, all in one batch."""
    start = torch.zeros(1, dtype=torch.int64)
    for _ in generate(network, start, range(samples), SampleConfig(max_new_tokens=characters)):
        pass


def draw_one_by_one(network: Any, samples: int, characters: int) -> None:
    """Samples as nanoGPT's sample.py does, one after another."""
    for _ in range(samples):
        network.generate(torch.zeros(1, 1, dtype=torch.int64), characters, temperature=0.8, top_k=200)


if __name__ == "__main__":
    print(json.dumps(measure(**json.loads(sys.argv[1]))))
