"""In Python, a network of another alphabet and a Trainer that would never end are refused."""

import re
from pathlib import Path

import lightning as L
import pytest
import torch
from support.bare_trainer import fit, tiny

from chargpt_lightning import CharDataModule
from chargpt_lightning.utils.errors import ConfigError

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning advises against these settings


@pytest.mark.parametrize("method", ["fit", "validate", "predict"])
def test_a_network_of_another_alphabet_is_refused(method):
    Path("other.txt").write_text("0123456789" * 100, encoding="utf-8")
    data = CharDataModule("other.txt", batch_size=2, block_size=8, eval_iters=2, prompt="0")
    trainer = L.Trainer(max_steps=1, accelerator="cpu", logger=False, enable_checkpointing=False)
    message = "alphabet of the network ('\\n ,?IWadeghilmnorstuw') must be the text's ('0123456789'): create CharGPT("
    with pytest.raises(ConfigError, match=re.escape(message)):
        getattr(trainer, method)(tiny(), datamodule=data)


class Foreign(L.LightningModule):
    """A module that knows nothing of alphabets."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Linear(1, 1)

    def training_step(self, batch, batch_idx):
        return self.weight(torch.ones(1)).sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def test_a_module_without_an_alphabet_is_left_alone():
    assert fit(Foreign(), limit_val_batches=0).global_step == 4


@pytest.mark.parametrize(("settings", "epochs"), [({"max_epochs": 1}, 1), ({}, 1000)])
def test_epochs_that_would_never_end_are_refused(settings, epochs):
    message = f"Trainer(max_epochs={epochs}) would never end, because training windows never end: give max_steps, or"
    with pytest.raises(ConfigError, match=re.escape(message)):
        fit(tiny(), max_steps=-1, **settings)


@pytest.mark.parametrize("ends", [{"limit_train_batches": 2}, {"overfit_batches": 2}])
def test_epochs_that_end_are_accepted(ends):
    assert fit(tiny(), max_steps=-1, max_epochs=1, **ends).global_step == 2
