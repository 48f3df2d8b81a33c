"""A subclass of CharGPT loads its own checkpoints; CharGPT refuses a network that is not the one it describes."""

import re

import pytest
import torch
from support.bare_trainer import NETWORK, fit, tiny
from torch import nn

from chargpt_lightning import CharGPT
from chargpt_lightning.utils.errors import ConfigError


class Wider(CharGPT):
    """Its network has one more layer than its arguments describe, and it has an argument of its own."""

    def __init__(self, alphabet: str, activation: str = "relu", **settings):
        super().__init__(alphabet, **settings)
        self.gpt.more = nn.Linear(2, 2)


def saved() -> Wider:
    torch.manual_seed(0)
    model = Wider(tiny().hparams["alphabet"], "gelu", **NETWORK)
    fit(model).save_checkpoint("wider.ckpt", weights_only=False)
    return model


def test_a_subclass_loads_its_network_and_its_arguments():
    model = saved()
    loaded = Wider.load_from_checkpoint("wider.ckpt")
    assert torch.equal(loaded.gpt.more.weight, model.gpt.more.weight)
    assert loaded.hparams["activation"] == "gelu"
    fit(tiny()).save_checkpoint("tiny.ckpt", weights_only=False)
    with pytest.raises(ConfigError, match=r"gpt.more.bias \(absent\) must be as in this network \(2\)"):
        Wider.load_from_checkpoint("tiny.ckpt")


def test_chargpt_refuses_it():
    saved()
    message = "ckpt_path (wider.ckpt) must be a checkpoint of chargpt_lightning, nanoGPT or Hugging Face"
    with pytest.raises(ConfigError, match=re.escape(message)):
        CharGPT.load_from_checkpoint("wider.ckpt")
