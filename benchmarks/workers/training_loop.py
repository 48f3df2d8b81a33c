"""Training steps of the recipe in a bare loop, without the Trainer: time, operations and memory."""

import json
import os
import resource
import sys
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.clock import steady_ms, timed_ms
from benchmarks.figures import Figures
from chargpt_lightning import GPT, CharDataModule, CharGPT
from chargpt_lightning.data.windows import Batch
from chargpt_lightning.utils.hardware import keep_freed_memory


class HuggingFace(nn.Module):
    """GPT2LMHeadModel in the size of a given network; it has biases, which cannot be turned off."""

    def __init__(self, network: GPT) -> None:
        super().__init__()
        from transformers import GPT2Config, GPT2LMHeadModel

        names = ("vocab_size", "n_layer", "n_head", "n_embd")
        shape: dict[str, Any] = {name: getattr(network.config, name) for name in names}
        no_dropout: dict[str, Any] = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
        block_size = network.config.block_size
        config = GPT2Config(n_positions=block_size, activation_function="gelu", **shape, **no_dropout)
        self.network = GPT2LMHeadModel(config)

    def forward(self, ids: Tensor) -> Tensor:
        """Ids (B, T) to logits (B, T, V)."""
        return self.network(ids, use_cache=False).logits


def measure(
    text: str,
    steps: int,
    precision: str = "32-true",
    hugging_face: bool = False,
    batch_size: int = 12,
    **shape: Any,
) -> Figures:
    """Reads the text and trains on it; `shape` overrides fields of GPTConfig."""
    _limit_memory()
    keep_freed_memory()
    start_s = time.perf_counter()
    data = CharDataModule(text, batch_size, block_size=shape.get("block_size", 64))
    data.setup("fit")
    read_s = time.perf_counter() - start_s
    module = CharGPT(data.alphabet, **shape)
    assert isinstance(module.gpt, GPT), "step_gflop counts the operations of this network only"
    gflop = step_gflop(module.gpt, batch_size)
    if hugging_face:
        module.gpt = HuggingFace(module.gpt)  # type: ignore[assignment]
    times_ms = train(module, islice(data.train_dataloader(), steps), precision)
    return {
        "read_mb_per_s": Path(text).stat().st_size / 1e6 / read_s,
        "step_ms": steady_ms(times_ms, eval_interval=steps),
        "step_gflop": gflop,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10),
    }


def train(module: CharGPT, batches: Iterable[Batch], precision: str) -> list[float]:
    """Makes the steps of `bare_steps`; returns their milliseconds."""
    return timed_ms(bare_steps(module, batches, precision))


def bare_steps(module: CharGPT, batches: Iterable[Batch], precision: str) -> Iterator[None]:
    """Makes the same steps as `fit`, with its optimizer and clipping, and yields after each."""
    module.trainer = L.Trainer(accelerator="cpu", precision=precision, logger=False, enable_checkpointing=False)  # type: ignore[arg-type]
    configured: Any = module.configure_optimizers()  # reads the precision from the trainer
    optimizer, scheduler = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    for ids, targets in batches:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
            loss = F.cross_entropy(module(ids).flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        yield


def step_gflop(network: GPT, batch_size: int) -> float:
    """Returns the GFLOP of a step by nanoGPT's formula: 6N + 12LCT per character, N without position embeddings."""
    shape = network.config
    parameters = sum(p.numel() for p in network.parameters()) - network.transformer.wpe.weight.numel()
    attention = 12 * shape.n_layer * shape.n_embd * shape.block_size
    return batch_size * shape.block_size * (6 * parameters + attention) / 1e9


def _limit_memory() -> None:
    """Limits the memory of this process, which then raises MemoryError before the kernel kills any process."""
    limit = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * 3 // 4
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


if __name__ == "__main__":
    print(json.dumps(measure(**json.loads(sys.argv[1]))))
