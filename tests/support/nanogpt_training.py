"""A loop that trains and evaluates as nanoGPT does, and writes its files."""

import math
from pathlib import Path

import torch
from torch.nn import functional as F
from torch.optim import AdamW

from chargpt_lightning import GPT, GPTConfig
from support.command_line import VERSE
from support.nanogpt_folder import prepare

TEXT = VERSE * 20
ALPHABET = "".join(sorted(set(TEXT)))
CONFIG = {
    "dataset": "verse",
    "learning_rate": 1e-2,
    "min_lr": 1e-3,
    "warmup_iters": 2,
    "lr_decay_iters": 20,
    "decay_lr": True,
    "weight_decay": 0.2,
    "beta1": 0.8,
    "beta2": 0.95,
    "eval_only": False,
    "device": "cpu",
}
STEPS = 6


class NanoGPT:
    """A training as nanoGPT's train.py does it, and its files."""

    def __init__(self, bias: bool = False) -> None:
        torch.manual_seed(1)
        self.args = {
            **{"n_layer": 2, "n_head": 2, "n_embd": 8, "block_size": 8},
            **{"bias": bias, "vocab_size": len(ALPHABET), "dropout": 0.0},
        }
        self.network = GPT(GPTConfig(**self.args))
        weights = list(self.network.parameters())
        groups = [
            {"params": [weight for weight in weights if weight.dim() >= 2], "weight_decay": CONFIG["weight_decay"]},
            {"params": [weight for weight in weights if weight.dim() < 2], "weight_decay": 0.0},
        ]
        self.optimizer = AdamW(groups, lr=CONFIG["learning_rate"], betas=(CONFIG["beta1"], CONFIG["beta2"]))
        self.step = 0

    def update(self, ids: torch.Tensor, targets: torch.Tensor) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step)
        self.optimizer.zero_grad()
        F.cross_entropy(self.network(ids).flatten(0, 1), targets.flatten()).backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1

    def train(self, steps: int) -> "NanoGPT":
        ids = torch.tensor([ALPHABET.index(character) for character in TEXT])
        for _ in range(steps):
            starts = torch.randint(len(ids) - 9, (4,))
            windows = torch.stack([ids[start : start + 9] for start in starts])
            self.update(windows[:, :-1], windows[:, 1:])
        return self

    def content(self) -> dict:
        return {
            "model": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "model_args": self.args,
            "iter_num": self.step,
            "best_val_loss": torch.tensor(2.5),
            "config": CONFIG,
        }

    def exact_loss(self) -> float:
        """The mean over the windows of the val split, one after the other."""
        ids = torch.tensor([ALPHABET.index(character) for character in TEXT[int(len(TEXT) * 0.9) :]])
        losses = []
        for start in range(0, len(ids) - 8, 8):
            logits = self.network(ids[None, start : start + 8])
            losses.append(F.cross_entropy(logits[0], ids[start + 1 : start + 9]).item())
        return sum(losses) / len(losses)

    def likeliest(self, prompt: str, characters: int) -> str:
        """The text of nanoGPT's sample.py if only the likeliest character may be drawn."""
        ids = [ALPHABET.index(character) for character in prompt]
        for _ in range(characters):
            ids.append(self.network(torch.tensor([ids[-8:]]))[0, -1].argmax().item())
        return "".join(ALPHABET[i] for i in ids)


def learning_rate(step: int) -> float:
    """nanoGPT's schedule, by hand."""
    if step < 2:
        return 1e-2 * (step + 1) / 3
    if step > 20:
        return 1e-3
    return 1e-3 + 0.5 * (1 + math.cos(math.pi * (step - 2) / 18)) * 9e-3


def lay_out(content: dict, with_meta: bool = True) -> Path:
    """Writes the files where nanoGPT writes them; returns the checkpoint's path."""
    data = prepare("nanoGPT/data/verse", TEXT)
    if not with_meta:
        (data / "meta.pkl").unlink()
    Path("nanoGPT/out-verse").mkdir()
    torch.save(content, "nanoGPT/out-verse/ckpt.pt")
    return Path("nanoGPT/out-verse/ckpt.pt")
