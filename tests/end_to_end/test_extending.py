"""docs/extending.md: its main.py trains, resumes, validates and samples; its network works."""

import re
from pathlib import Path

import pytest
import torch
from support import ROOT
from support.bare_trainer import NETWORK, fit
from support.command_line import TINY, Result, states
from support.processes import Python, forked

from chargpt_lightning import CharDataModule

BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "docs/extending.md").read_text(encoding="utf-8"), re.DOTALL)


def my_main(*args: str) -> Result:
    return Python("main.py", *args).result()


@pytest.mark.slow
def test_a_main_of_ones_own_has_the_whole_command_line():
    Path("main.py").write_text(BLOCKS[0], encoding="utf-8")
    trained = my_main(*TINY, "--model.momentum", "0.8")
    assert trained.code == 0, trained.err
    assert "sample from it: python main.py predict" in trained.err
    resumed = my_main("fit", "--ckpt_path", "last", "--trainer.max_steps", "7")
    assert resumed.code == 0, resumed.err
    assert "changed: trainer.max_steps is 7, was 5\n" in resumed.err
    last = states(Path("runs/version_0"))["last"]
    assert last["optimizer_states"][0]["param_groups"][0]["momentum"] == 0.8
    assert last["lr_schedulers"][0]["last_epoch"] == 7
    assert "loss: " in my_main("validate").out
    assert forked("validate").err.splitlines()[-1] == (
        "error: ckpt_path (runs/version_0/checkpoints/best.ckpt) has settings that CharGPT does not have: momentum; "
        "if a subclass of CharGPT was trained, use the main.py that trained it (docs/extending.md)"
    )
    sampled = my_main("predict", "--sample.num_samples", "1", "--sample.max_new_tokens", "9")
    assert (sampled.code, len(sampled.out)) == (0, 11)


def test_a_network_of_ones_own_trains_and_samples():
    found: dict = {"__name__": "mine"}
    exec(BLOCKS[1], found)
    torch.manual_seed(0)
    model = found["BigramGPT"](CharDataModule("verse.txt").alphabet, **NETWORK, learning_rate=0.1, warmup_iters=0)
    fit(model, max_steps=20)
    assert model.train_loss < 3
    assert len(model.sample("W", 9)) == 10
