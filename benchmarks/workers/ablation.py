"""A recipe of the ladder with one ingredient changed: exact loss and step time."""

import json
import sys
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Any

import lightning as L
import torch
import yaml
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.clock import steady_ms
from benchmarks.figures import Figures
from benchmarks.machine import ROOT, precisions
from benchmarks.workers.training_loop import train
from chargpt_lightning import CharDataModule, CharGPT
from chargpt_lightning.models import modern
from chargpt_lightning.optim import muon
from chargpt_lightning.utils.hardware import keep_freed_memory

Build = Callable[..., Any]  # builds the CharGPT of the recipe; keyword arguments override its settings


def learned_positions(build: Build) -> CharGPT:
    """GPT-2's learned position embeddings instead of rotary ones."""
    modern.apply_rope = lambda x, cos_sin: x
    module = build()
    transformer = module.gpt.transformer
    transformer.wpe = nn.Embedding(module.gpt.config.block_size, module.gpt.config.n_embd)
    nn.init.normal_(transformer.wpe.weight, std=0.02)
    transformer.ln_e.register_forward_pre_hook(lambda norm, inputs: (inputs[0] + transformer.wpe.weight,))
    return module


def no_norm_of_queries_and_keys(build: Build) -> CharGPT:
    """GPT-2's attention, without norms of queries and keys."""
    module = build()
    for block in module.gpt.transformer.h:
        block.attn.ln_q = block.attn.ln_k = nn.Identity()
    return module


def gelu(build: Build) -> CharGPT:
    """GPT-2's activation instead of squared ReLU."""

    def forward(mlp: Any, x: Tensor) -> Tensor:
        return mlp.c_proj(F.gelu(mlp.c_fc(x)))

    module = build()
    for block in module.gpt.transformer.h:
        block.mlp.forward = partial(forward, block.mlp)
    return module


def no_n_grams(build: Build) -> CharGPT:
    """No embeddings of n-grams."""
    return build(n_gram=1)


def trigrams_at_most(build: Build) -> CharGPT:
    """Embeddings of bigrams and trigrams only."""
    return build(n_gram=3)


def no_dropout_of_n_grams(build: Build) -> CharGPT:
    """Every n-gram is used in every update."""
    return build(n_gram_dropout=0.0)


def one_character_embedded(build: Build) -> CharGPT:
    """GPT-2's embedding of each character alone, without the three before it."""
    modern.EMBEDDING_WIDTH = 1
    return build()


def no_norm_of_the_embedding(build: Build) -> CharGPT:
    """GPT-2's residual stream, which starts without a norm."""
    module = build()
    module.gpt.transformer.ln_e = nn.Identity()
    return module


def tied_head(build: Build) -> CharGPT:
    """GPT-2's head, which shares the weights of the embedding and their initialization."""
    module = build()
    weight = module.gpt.transformer.wte.weight
    nn.init.normal_(weight, std=0.02)
    module.gpt.lm_head.forward = lambda x: F.linear(x, weight[:, : module.gpt.config.n_embd])
    module.gpt.lm_head.weight.requires_grad = False
    return module


def adamw_alone(build: Build) -> CharGPT:
    """AdamW for all weights, at the best of 1, 3, 5 and 10 times nanoGPT's learning rate for the fast recipe."""
    return build(optimizer="adamw", learning_rate=5e-3, min_lr=5e-4)


def five_newton_schulz_iterations(build: Build) -> CharGPT:
    """Five iterations of Jordan's polynomial, as in torch.optim.Muon."""
    muon.POLYNOMIALS = ((3.4445, -4.7750, 2.0315),) * 5  # type: ignore[assignment]
    return build()


def four_heads(build: Build) -> CharGPT:
    """nanoGPT's number of heads."""
    return build(n_head=4)


def rms_norms(build: Build) -> CharGPT:
    """RMSNorm instead of LayerNorm in the blocks."""
    module = build()
    for block in module.gpt.transformer.h:
        block.ln_1, block.ln_2 = nn.RMSNorm(module.gpt.config.n_embd), nn.RMSNorm(module.gpt.config.n_embd)
    return module


def norms_without_weights(build: Build) -> CharGPT:
    """LayerNorm without learned weights."""
    module = build()
    for part in module.modules():
        if isinstance(part, nn.LayerNorm):
            part.weight = None  # type: ignore[assignment]
    return module


def softly_capped_logits(build: Build) -> CharGPT:
    """Logits softly capped to between -15 and 15."""
    module = build()
    module.gpt.lm_head.register_forward_hook(lambda head, inputs, logits: 15 * torch.tanh(logits / 15))
    return module


def zero_head_and_projections(build: Build) -> CharGPT:
    """Head and output projections initialized to zero instead of torch's uniform distribution."""
    module = build()
    for name, weights in module.gpt.named_parameters():
        if name.endswith(("c_proj.weight", "lm_head.weight")):
            nn.init.zeros_(weights)
    return module


def nothing(build: Build) -> CharGPT:
    """The recipe unchanged."""
    return build()


def by_name(*changes: Callable[[Build], CharGPT]) -> dict[str, Callable[[Build], CharGPT]]:
    """Returns changes by their names."""
    return {change.__name__: change for change in changes}


INGREDIENTS = by_name(
    *(nothing, no_n_grams, no_dropout_of_n_grams, trigrams_at_most, adamw_alone, gelu, one_character_embedded),
    *(no_norm_of_the_embedding, learned_positions, no_norm_of_queries_and_keys, tied_head),
)
REJECTED = by_name(
    *(zero_head_and_projections, softly_capped_logits, rms_norms, norms_without_weights),
    *(five_newton_schulz_iterations, four_heads),
)
CHANGES = INGREDIENTS | REJECTED


def measure(text: str, recipe: str, change: str, seed: int, steps: int | None = None) -> Figures:
    """Trains a recipe, or its first steps, with the change of this name; returns exact val loss and step time."""
    keep_freed_memory()
    settings = yaml.safe_load((ROOT / f"configs/{recipe}.yaml").read_text(encoding="utf-8"))
    model, steps = settings["model"], steps or settings["trainer"]["max_steps"]
    L.seed_everything(seed, verbose=False)
    data = CharDataModule(text, settings["data"]["batch_size"], block_size=model["block_size"], seed=seed)
    data.setup("fit")
    module = CHANGES[change](lambda **changed: CharGPT(data.alphabet, **model | {"lr_decay_iters": steps} | changed))
    precision = list(precisions().values())[-1]
    times_ms = train(module, islice(data.train_dataloader(), steps), precision)
    quiet: Any = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = L.Trainer(accelerator="cpu", precision=precision, **quiet)  # type: ignore[arg-type]
    (figures,) = trainer.validate(
        module, datamodule=CharDataModule(text, 256, block_size=model["block_size"]), verbose=False
    )
    return {"step_ms": steady_ms(times_ms, eval_interval=steps), "val_loss": figures["val/loss"]}


if __name__ == "__main__":
    print(json.dumps(measure(**json.loads(sys.argv[1]))))
