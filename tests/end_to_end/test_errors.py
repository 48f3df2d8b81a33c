"""Bad input: one line that names what was given and the rule, an exit code that is not 0, and nothing written."""

from pathlib import Path

import pytest
import torch
from support.command_line import TINY, refused
from support.platforms import posix

CPU_ONLY = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the accelerator")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--model.n_head", "x"], "Parser key \"model.n_head\": Expected a <class 'int'>. Got value: x"),
        (["--model.n_head", "2.0"], "Parser key \"model.n_head\": Expected a <class 'int'>. Got value: 2.0"),
        (["--trainer.precision", "half"], 'Parser key "trainer.precision": '),
        (["--data.block_size", "8"], 'Linked "data.block_size" must be given via "model.block_size".'),
        (["--config", "none.yaml"], "config (none.yaml) must be a file, or one of the recipes shakespeare_char, "),
        (["-c=configs"], "config (configs) must be a file, or one of the recipes shakespeare_char, "),
        (["--config"], "argument -c/--config: expected one argument"),
        (["--model.n_head", "3"], "n_embd (8) must be divisible by n_head (3)"),
        (["--model.n_layer", "0"], "n_layer (0) must be at least 1"),
        (["--model.n_embd", "0"], "n_embd (0) must be at least 1"),
        (["--model.block_size", "0"], "block_size (0) must be at least 1"),
        (["--data.batch_size", "0"], "batch_size (0) must be at least 1"),
        (["--data.eval_iters", "-1"], "eval_iters (-1) must be at least 1"),
        (["--model.dropout", "1"], "dropout (1.0) must be at least 0 and below 1"),
        (["--model.dropout", "-0.1"], "dropout (-0.1) must be at least 0 and below 1"),
        (["--model.learning_rate", "0"], "learning_rate (0.0) must be above 0 and finite"),
        (["--model.block_size", "200"], "data.text (verse.txt) must be longer: its val split has 134 characters"),
        (["--model.block_size", "2000"], "data.text (verse.txt) must be longer: its train split has 1206 characters"),
        (["--data.text", "none.txt"], "data.text (none.txt) must be a readable file, but: No such file"),
        (["--data.text", "empty.txt"], "data.text (empty.txt) must not be empty"),
        (
            ["--data.text", "configs"],
            "data.text (configs) must be a file, or a character-level data folder from nanoGPT",
        ),
        (["--data.text", "latin.txt"], "data.text (latin.txt) must be UTF-8, but byte 3 is not"),
        (["--data.alphabet", "aab"], "alphabet ('aab') must contain each character once"),
        (["--seed_everything", "true"], "seed_everything (True) must be a number from 0 to 2**32 - 1"),
        (["--seed_everything", "-3"], "seed_everything (-3) must be a number from 0 to 2**32 - 1"),
        (["--trainer.accumulate_grad_batches", "0"], "accumulate_grad_batches (0) must be at least 1"),
        (["--trainer.val_check_interval", "0"], "val_check_interval (0) must be at least 1"),
        (["--trainer.gradient_clip_val", "-1"], "gradient_clip_val (-1) must be at least 0"),
        (["--trainer.log_every_n_steps", "-1"], "log_every_n_steps (-1) must be at least 0"),
        (["--trainer.devices", "-1"], "trainer: `devices` selected with `CPUAccelerator` should be an int > 0."),
        (["--data.num_workers", "-1"], "num_workers (-1) must be at least 0"),
        (
            ["--trainer.strategy", "ModelParallelStrategy", "--trainer.strategy.data_parallel_size", "2"],
            "trainer.strategy.tensor_parallel_size (auto) must be 1, because the network is sharded by data_parallel",
        ),
        (
            ["--trainer.strategy", "ModelParallelStrategy", "--trainer.strategy.tensor_parallel_size", "1"],
            "trainer.strategy.save_distributed_checkpoint (True) must be False, because a checkpoint is one file",
        ),
        (["--trainer.logger", "false"], "trainer.logger (False) must not be off"),
        (["--trainer.max_steps", "-1"], "trainer.max_steps (-1) must be set, because the training windows never end"),
        (["--trainer.max_steps=-1", "--trainer.limit_train_batches=1.0"], "trainer.max_steps (-1) must be set"),
        pytest.param(["--trainer.accelerator", "cuda"], "`CUDAAccelerator` can not run on your system", marks=CPU_ONLY),
        (["--trainer.accelerator", "abacus"], "trainer: You selected an invalid accelerator name"),
        (["--trainer.strategy", "hope"], "trainer: You selected an invalid strategy name"),
        (
            ["--trainer.default_root_dir", "verse.txt"],
            "trainer.default_root_dir (verse.txt) must be a writable directory",
        ),
        pytest.param(
            ["--trainer.default_root_dir", "/proc/runs"],
            "trainer.default_root_dir (/proc/runs) must be a writable directory",
            marks=posix,
        ),
        (["--ckpt_path", "none.ckpt"], "ckpt_path (none.ckpt) must be a checkpoint file, but there is no such file"),
        (["--ckpt_path", "last"], "trainer.default_root_dir (runs) must contain a run with a checkpoint"),
        (["--eval_only=True"], "eval_only (True) must be False; use `validate` instead of `fit`"),
    ],
)
def test_fit_refuses(run, args, message):
    Path("empty.txt").touch()
    Path("latin.txt").write_bytes("caf\xe9".encode("latin-1"))
    assert refused(run, *TINY, *args).startswith(message)


@pytest.mark.parametrize("flag", ["--nope", "--trainer.max_step"])
def test_an_unknown_or_abbreviated_flag_is_named(run, flag):
    assert f"nrecognized arguments: {flag} 3" in refused(run, *TINY, flag, "3")


def test_an_unknown_key_in_a_file_is_named(run):
    Path("my.yaml").write_text("model:\n  n_layr: 3\n", encoding="utf-8")
    assert "n_layr" in refused(run, "fit", "-c", "my.yaml")


def test_a_file_that_is_no_yaml_is_refused_in_one_line(run):
    Path("my.yaml").write_text("model: [1", encoding="utf-8")
    assert refused(run, "fit", "-c", "my.yaml").startswith("Problems parsing config: ")


@pytest.mark.parametrize("subcommand", ["validate", "predict"])
def test_without_any_run_there_is_nothing_to_validate_or_sample(run, subcommand):
    message = "trainer.default_root_dir (runs) must contain a run with a checkpoint; `fit` creates one"
    assert refused(run, subcommand) == message


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--sample.prompt="], "prompt ('') must contain at least one character"),
        (["--sample.prompt", "When é"], "prompt ('é' at position 5) must use only the 21 characters of the vocabulary"),
        (["--sample.prompt", "FILE:none"], "prompt (none) must be a readable file, but: No such file"),
        (["--sample.temperature", "-1"], "temperature (-1.0) must be at least 0 and finite"),
        (["--sample.top_k", "0"], "top_k (0) must be at least 1"),
        (["--sample.top_p", "1.5"], "top_p (1.5) must be above 0 and at most 1"),
        (["--sample.num_samples", "0"], "num_samples (0) must be at least 1"),
        (["--sample.max_new_tokens", "0"], "max_new_tokens (0) must be at least 1"),
    ],
)
def test_predict_refuses(run, tiny_run, args, message):
    assert refused(run, "predict", *args).startswith(message)


@pytest.mark.parametrize("damage", ["cut off", "empty", "text", "foreign", "nearly ours", "nearly plain", "code"])
def test_a_checkpoint_that_is_none_is_refused(run, tiny_run, damage):
    whole = (tiny_run / "checkpoints/best.ckpt").read_bytes()
    path = Path("damaged.ckpt")
    if damage == "foreign":
        torch.save({"model": {}, "model_args": {"n_layer": 1}}, path)
    elif damage.startswith("nearly"):
        ours = torch.load(tiny_run / "checkpoints/best.ckpt", weights_only=True)
        other = {"alphabet": 5} if damage == "nearly ours" else {"min_lr": torch.zeros(1)}
        torch.save(ours | {"hyper_parameters": ours["hyper_parameters"] | other}, path)
    elif damage == "code":
        torch.save({"model": torch.nn.Linear(1, 1)}, path)
    else:
        path.write_bytes({"cut off": whole[: len(whole) // 2], "empty": b"", "text": b"hello"}[damage])
    expected = (
        "ckpt_path (damaged.ckpt) must be a checkpoint of chargpt_lightning or of nanoGPT"
        if damage in ("foreign", "nearly ours", "nearly plain")
        else "ckpt_path (damaged.ckpt) must be an intact checkpoint file that contains no code"
    )
    for subcommand in ("validate", "predict"):
        assert refused(run, subcommand, "--ckpt_path", "damaged.ckpt") == expected


def test_a_text_with_characters_that_the_checkpoint_lacks_is_refused(run, tiny_run):
    Path("other.txt").write_text("0123456789" * 100, encoding="utf-8")
    message = refused(run, "validate", "--data.text", "other.txt")
    assert message.startswith(
        "data.text ('0' at position 0 of other.txt) must use only the 21 characters of the vocabulary"
    )


def test_a_subcommand_is_needed(run):
    assert "fit,validate,predict" in refused(run)
    assert "invalid choice: 'test'" in refused(run, "test")
