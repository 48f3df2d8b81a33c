"""The package without its command line: in a notebook, and under a Trainer that the user makes."""

from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from support.command_line import FAST, TINY
from torch.utils.data import DataLoader, TensorDataset

from chargpt_lightning import CharDataModule, CharGPT
from chargpt_lightning.utils.errors import ConfigError

SHAPE = {"block_size": 8, "n_layer": 1, "n_head": 2, "n_embd": 8}
QUIET = {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False}


def trainer(**settings) -> L.Trainer:
    return L.Trainer(**QUIET | {"logger": False, "enable_checkpointing": False} | settings)


@pytest.mark.parametrize("network", [[], FAST], ids=["gpt2", "fast"])
def test_sample_returns_what_predict_writes_first(run, network):
    assert run(*TINY, *network).code == 0
    how = {"max_new_tokens": 30, "temperature": 0.7, "top_k": 5, "top_p": 0.9, "seed": 7}
    flags = [part for name, value in how.items() for part in (f"--sample.{name}", str(value))]
    written = run("predict", "--sample.prompt", "When", "--sample.num_samples", "1", *flags).out
    model = CharGPT.load_from_checkpoint("runs/version_0/checkpoints/best.ckpt")
    assert model.sample("When", **how) == written.removesuffix("\n")
    assert len(written) == len("When") + 30 + 1


def test_sample_uses_no_dropout_and_leaves_the_training_mode_as_it_was():
    model = CharGPT("abc", **SHAPE, dropout=0.9)
    with torch.random.fork_rng():
        assert model.sample("a", 50) == model.sample("a", 50)
    assert model.training
    model.eval().sample("a", 5)
    assert not model.training


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"prompt": ""}, r"prompt \(''\) must contain at least one character"),
        ({"temperature": -1}, r"temperature \(-1\) must be at least 0"),
        ({"max_new_tokens": 0}, r"max_new_tokens \(0\) must be at least 1"),
    ],
)
def test_sample_refuses_an_empty_prompt_and_settings_out_of_range(how, message):
    with pytest.raises(ConfigError, match=message):
        CharGPT("abc", **SHAPE).sample(**{"prompt": "a"} | how)


def test_sample_skips_unknown_characters_with_a_message(caplog):
    model = CharGPT("abc", **SHAPE)
    assert model.sample("xaxby", 5, unknown="skip") == model.sample("ab", 5)
    assert [record.getMessage() for record in caplog.records] == [
        "prompt: skipped 'xy' (3 in all): not in the vocabulary"
    ]


def test_a_users_trainer_trains_as_fit_does(run):
    assert run(*TINY).code == 0
    data = CharDataModule("verse.txt", batch_size=2, block_size=8, eval_iters=2)
    torch.manual_seed(1337)
    by_fit = CharGPT.load_from_checkpoint("runs/version_0/checkpoints/last.ckpt")
    L.seed_everything(1337)
    model = CharGPT(data.alphabet, **SHAPE, warmup_iters=2)
    trainer(max_steps=5).fit(model, data)
    for name, weight in by_fit.state_dict().items():
        assert torch.equal(model.state_dict()[name], weight), name


@pytest.mark.filterwarnings("ignore:.*callbacks used to create the checkpoint")
def test_lightnings_callbacks_and_loggers_work():
    data = CharDataModule("verse.txt", batch_size=2, block_size=8, eval_iters=2)
    model = CharGPT(data.alphabet, **SHAPE)
    best = ModelCheckpoint("kept", monitor="val/loss", filename="best", enable_version_counter=False)
    callbacks = [best, EarlyStopping("val/loss", patience=100), LearningRateMonitor("step")]
    settings = {"logger": CSVLogger("."), "log_every_n_steps": 1, "callbacks": callbacks, "enable_checkpointing": True}
    own = trainer(max_steps=6, val_check_interval=2, check_val_every_n_epoch=None, **settings)
    own.fit(model, data)
    (figures,) = own.validate(model, data, verbose=False)
    assert figures["val/loss"] == pytest.approx(best.best_model_score.item(), abs=0.1)
    assert "train/loss" in Path("lightning_logs/version_0/metrics.csv").read_text(encoding="utf-8")
    other = trainer(max_steps=8)
    other.fit(model, data, ckpt_path="kept/best.ckpt")
    assert other.global_step == 8
    assert len(trainer().predict(model, data)) == 1


def test_a_network_trained_on_other_data_is_read_by_the_command_line(run):
    ids = torch.randint(3, (20, 9))
    loader = DataLoader(TensorDataset(ids[:, :-1], ids[:, 1:]), batch_size=4)
    model = CharGPT("abc", **SHAPE)
    own = trainer(max_epochs=2)
    own.fit(model, loader, loader)
    assert own.global_step == 10
    own.save_checkpoint("own.ckpt", weights_only=False)
    result = run("predict", "--ckpt_path", "own.ckpt", "--sample.prompt", "a", "--num_samples=1", "--max_new_tokens=9")
    assert result.out == CharGPT.load_from_checkpoint("own.ckpt").sample("a", 9) + "\n"
    Path("abc.txt").write_text("abcabcbca" * 30, encoding="utf-8")
    result = run("validate", "--ckpt_path", "own.ckpt", "--data.text", "abc.txt")
    assert result.code == 0, result.err


def test_load_from_checkpoint_accepts_lightnings_arguments(tiny_run):
    path = tiny_run / "checkpoints/best.ckpt"
    assert CharGPT.load_from_checkpoint(str(path), learning_rate=0.5).optimizer_config.learning_rate == 0.5
    assert CharGPT.load_from_checkpoint(path, map_location=torch.device("cpu")).device.type == "cpu"
    with pytest.raises(
        ConfigError, match=r"ckpt_path \(nothing.ckpt\) must be a checkpoint file, but there is no such file"
    ):
        CharGPT.load_from_checkpoint("nothing.ckpt")
