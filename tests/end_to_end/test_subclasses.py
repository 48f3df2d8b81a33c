"""CharGPT is a LightningModule like any other: it can be pickled, subclassed, tested and trained without a Trainer."""

import io
import pickle
from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping
from support.bare_trainer import NETWORK, fit, tiny
from support.platforms import several_devices
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR

from chargpt_lightning import CharDataModule, CharGPT


def data() -> CharDataModule:
    return CharDataModule(Path("verse.txt"), batch_size=2, block_size=8, eval_iters=2)


def halved(step: int) -> float:
    return 0.5**step


class Halving(CharGPT):
    """Its optimizer has a group for each weight, and its learning rate is halved at every update."""

    def configure_optimizers(self):
        optimizer = SGD([{"params": [weight]} for weight in self.parameters()], lr=0.1, momentum=0.9)
        return [optimizer], [{"scheduler": LambdaLR(optimizer, halved), "interval": "step"}]


class Cosine(CharGPT):
    """Without a schedule of its own for the second half of the groups."""

    def configure_optimizers(self):
        optimizer = super().configure_optimizers()["optimizer"]
        return {"optimizer": optimizer, "lr_scheduler": CosineAnnealingLR(optimizer, 10)}


class Unscheduled(CharGPT):
    def configure_optimizers(self):
        return SGD(self.parameters(), lr=0.1)


class Smoothed(CharGPT):
    """Has a training step of its own, and one more layer than its network."""

    def __init__(self, alphabet: str, smoothing: str = "little", **settings):
        super().__init__(alphabet, **settings)
        self.scale = nn.Parameter(torch.ones(()))

    def training_step(self, batch, batch_idx):
        ids, targets = batch
        return {"loss": F.cross_entropy(self(ids).flatten(0, 1) * self.scale, targets.flatten(), label_smoothing=0.1)}


class Bigram(nn.Module):
    """Looks only at the last character."""

    def __init__(self, characters: int):
        super().__init__()
        self.table = nn.Embedding(characters, characters)

    def forward(self, ids: Tensor) -> Tensor:
        return self.table(ids)

    def new_caches(self) -> None:
        return None

    def next_logits(self, ids: Tensor, caches: None) -> Tensor:
        return self(ids[:, -1])


class OwnNetwork(CharGPT):
    def __init__(self, alphabet: str, **settings):
        super().__init__(alphabet, **settings)
        self.gpt = Bigram(len(alphabet))


KINDS = [Halving, Cosine, Unscheduled, Smoothed, OwnNetwork]


class Watch(Callback):
    """Notes the learning rate of each update."""

    def __init__(self):
        self.rates = []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.rates.append(optimizer.param_groups[0]["lr"])


def made(kind: type[CharGPT]) -> CharGPT:
    torch.manual_seed(0)
    return kind(data().alphabet, **NETWORK)


def test_the_module_and_the_data_can_be_pickled_before_and_after_training():
    model, text = tiny(), data()
    for _ in range(2):
        copy, text_copy = pickle.loads(pickle.dumps((model, text)))
        assert torch.equal(copy(torch.tensor([[1, 2]])), model(torch.tensor([[1, 2]])))
        assert text_copy.splits == text.splits
        fit(model)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    assert torch.load(file, weights_only=False).sample("W", 5) == model.sample("W", 5)


@several_devices
@pytest.mark.slow
@pytest.mark.usefixtures("for_two_devices")
def test_ddp_spawn_trains(monkeypatch):
    monkeypatch.setenv("TMPDIR", str(Path.cwd()))  # where Lightning leaves a directory
    model = tiny()
    before = model.gpt.lm_head.weight.detach().clone()
    fit(model, devices=2, strategy="ddp_spawn")
    assert not torch.equal(model.gpt.lm_head.weight, before)


def test_a_subclass_keeps_its_own_optimizer_groups_and_schedule():
    watch = Watch()
    trainer = fit(made(Halving), callbacks=[watch])
    assert watch.rates == pytest.approx([0.1, 0.05, 0.025, 0.0125])
    assert len(trainer.optimizers[0].param_groups) == len(list(made(Halving).parameters()))


@pytest.mark.parametrize("kind", KINDS)
def test_a_subclass_trains_saves_resumes_exactly_samples_and_is_loaded(kind):
    whole, part = made(kind), made(kind)
    watch = Watch()
    fit(whole, max_steps=6, callbacks=[watch])
    fit(part, max_steps=4).save_checkpoint("part.ckpt", weights_only=False)
    resumed = kind.load_from_checkpoint("part.ckpt")
    for name, weight in part.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], weight), name
    rest = Watch()
    trainer = L.Trainer(
        max_steps=6, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[rest],
    )  # fmt: skip
    trainer.fit(resumed, data(), ckpt_path="part.ckpt", weights_only=True)
    assert rest.rates == watch.rates[4:]
    for name, weight in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], weight), name
    assert resumed.train_loss == whole.train_loss
    assert resumed.sample("W", 5) == whole.sample("W", 5)
    assert len(resumed.sample("W", 5)) == 6


@pytest.mark.parametrize("accumulated", [1, 3])
def test_train_loss_is_that_of_a_training_step_of_ones_own(accumulated):
    class Constant(CharGPT):
        def training_step(self, batch, batch_idx):
            return super().training_step(batch, batch_idx) * 0 + 2

    model = made(Constant)
    trainer = fit(model, log_every_n_steps=1, accumulate_grad_batches=accumulated, max_steps=2)
    assert model.train_loss == pytest.approx(2, rel=1e-6)
    assert trainer.callback_metrics["train/loss"].item() == pytest.approx(2, rel=1e-6)


def test_callbacks_and_progress_bars_find_the_loss_and_the_learning_rate():
    model = tiny(warmup_iters=2)
    settings = {"log_every_n_steps": 1, "val_check_interval": 2, "check_val_every_n_epoch": None}
    stop = EarlyStopping("train/loss", patience=9, check_on_train_epoch_end=False)
    trainer = fit(model, callbacks=[stop], **settings)
    assert stop.best_score < 4
    assert trainer.callback_metrics["train/loss"].item() == pytest.approx(model.train_loss)
    assert trainer.progress_bar_metrics["train/loss"] == model.train_loss
    assert trainer.progress_bar_metrics["lr"] == pytest.approx(trainer.callback_metrics["lr"].item())
    assert trainer.callback_metrics["lr"].item() == pytest.approx(
        model.hparams["learning_rate"] * model.optimizer_config.learning_rate_ratio(3)
    )


def test_test_gives_the_exact_figures_of_the_val_split_as_validate_does():
    model, text = tiny(), data()
    trainer = fit(model)
    (tested,) = trainer.test(model, text, verbose=False)
    (validated,) = trainer.validate(model, text, verbose=False)
    assert tested == validated
    assert tested["val/characters"] == 128  # of the 134, in whole windows and with a next character


def test_the_optimizer_of_a_bare_loop_needs_no_trainer():
    model = tiny(warmup_iters=0, learning_rate=1e-2)
    configured = model.configure_optimizers()
    optimizer, scheduler = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    ids, targets = next(iter(data().train_dataloader()))
    losses = []
    for _ in range(20):
        loss = model.training_step((ids, targets), 0)
        loss.backward()
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.1
