"""A tiny network under Lightning's Trainer, without the command line."""

import lightning as L
import torch

from chargpt_lightning import CharDataModule, CharGPT

NETWORK = {"block_size": 8, "n_layer": 1, "n_head": 2, "n_embd": 8}
FAST = {"architecture": "modern", "optimizer": "muon"}
N_GRAMS = {"n_gram": 3, "n_gram_dropout": 0.5}


def fit(module: CharGPT, **settings) -> L.Trainer:
    """Trains for four updates, unless the settings of the Trainer differ."""
    data = CharDataModule("verse.txt", batch_size=2, block_size=8, eval_iters=2)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = L.Trainer(accelerator="cpu", enable_model_summary=False, **{"max_steps": 4} | quiet | settings)
    trainer.fit(module, datamodule=data)
    return trainer


def tiny(**settings) -> CharGPT:
    """A network for the characters of verse.txt, always with the same weights."""
    torch.manual_seed(0)
    return CharGPT(CharDataModule("verse.txt").alphabet, **NETWORK | settings)
