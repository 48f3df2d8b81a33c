"""nanoGPT's flags: each becomes a setting of this package, or is refused with what to use instead."""

import re
import sys
from pathlib import Path

import pytest
import yaml
from support import ROOT
from support.command_line import VERSE, refused
from support.nanogpt_folder import prepare

from chargpt_lightning.checkpoints.training_settings import COUNTS
from chargpt_lightning.cli.nanogpt_flags import OTHERS, RENAMED, take_counts, translate
from chargpt_lightning.utils.errors import ConfigError

RECIPE = (
    *("--device=cpu", "--compile=False", "--eval_iters=20", "--log_interval=1", "--block_size=64", "--batch_size=12"),
    *("--n_layer=4", "--n_head=4", "--n_embd=128", "--max_iters=2000", "--lr_decay_iters=2000", "--dropout=0.0"),
)
TRAIN = {
    *("device", "dtype", "compile", "out_dir", "eval_interval", "log_interval", "eval_iters", "eval_only"),
    *("always_save_checkpoint", "init_from", "wandb_log", "wandb_project", "wandb_run_name", "dataset"),
    *("gradient_accumulation_steps", "batch_size", "block_size", "n_layer", "n_head", "n_embd", "dropout", "bias"),
    *("learning_rate", "max_iters", "weight_decay", "beta1", "beta2", "grad_clip", "decay_lr", "warmup_iters"),
    *("lr_decay_iters", "min_lr", "backend"),
}
SAMPLE = {"start", "num_samples", "max_new_tokens", "temperature", "top_k", "seed"}


def parsed(run, *args: str) -> str:
    result = run(*args, "--print_config")
    assert result.code == 0, result.err
    return result.out


def test_the_recipes_flags_on_the_gpu_config_give_the_cpu_config(run):
    pasted = parsed(run, "fit", "--config", "configs/shakespeare_char_gpu.yaml", *RECIPE)
    expected = parsed(
        run, "fit", "--config", "configs/shakespeare_char.yaml", "--trainer.accelerator", "cpu",
        "--trainer.precision", "32-true",
    )  # fmt: skip
    assert pasted == expected


def test_every_flag_of_nanogpt_is_known():
    assert set(RENAMED) | set(OTHERS) | set(COUNTS) == TRAIN | SAMPLE


@pytest.mark.parametrize(
    ("flag", "value", "line"),
    [
        ("device", "cpu", "accelerator: cpu"),
        ("device", "cuda", "accelerator: cuda"),
        ("device", "mps", "accelerator: mps"),
        ("dtype", "float32", "precision: 32-true"),
        ("dtype", "bfloat16", "precision: bf16-mixed"),
        ("dtype", "float16", "precision: 16-mixed"),
        ("compile", "True", "compile: true"),
        ("out_dir", "out-shakespeare", "default_root_dir: out-shakespeare"),
        ("eval_interval", "100", "val_check_interval: 100"),
        ("log_interval", "7", "log_every_n_steps: 7"),
        ("eval_iters", "9", "eval_iters: 9"),
        ("eval_only", "False", "max_steps: -1"),
        ("always_save_checkpoint", "True", "max_steps: -1"),
        ("init_from", "scratch", "ckpt_path: null"),
        ("wandb_log", "False", "logger: null"),
        ("wandb_project", "owt", "logger: null"),
        ("wandb_run_name", "mini", "logger: null"),
        ("dataset", "shakespeare_char", "text: tinyshakespeare"),
        ("dataset", "my.txt", "text: my.txt"),
        ("gradient_accumulation_steps", "4", "accumulate_grad_batches: 4"),
        ("batch_size", "5", "batch_size: 5"),
        ("block_size", "32", "block_size: 32"),
        ("n_layer", "3", "n_layer: 3"),
        ("n_head", "2", "n_head: 2"),
        ("n_embd", "96", "n_embd: 96"),
        ("dropout", "0.1", "dropout: 0.1"),
        ("bias", "True", "bias: true"),
        ("learning_rate", "3e-4", "learning_rate: 0.0003"),
        ("max_iters", "10", "max_steps: 10"),
        ("weight_decay", "1e-1", "weight_decay: 0.1"),
        ("beta1", "0.8", "beta1: 0.8"),
        ("beta2", "0.95", "beta2: 0.95"),
        ("grad_clip", "0.5", "gradient_clip_val: 0.5"),
        ("decay_lr", "False", "decay_lr: false"),
        ("warmup_iters", "0", "warmup_iters: 0"),
        ("lr_decay_iters", "50", "lr_decay_iters: 50"),
        ("min_lr", "1e-5", "min_lr: 1.0e-05"),
        ("backend", "gloo", "process_group_backend: gloo"),
        ("start", "ROMEO:", "prompt: 'ROMEO:'"),
        ("num_samples", "2", "num_samples: 2"),
        ("max_new_tokens", "30", "max_new_tokens: 30"),
        ("temperature", "1.5", "temperature: 1.5"),
        ("top_k", "10", "top_k: 10"),
        ("top_k", "None", "top_k: null"),
        ("seed", "7", "seed_everything: 7"),
    ],
)
@pytest.mark.parametrize("form", ["--name=value", "--name value"])
def test_a_flag_of_nanogpt_sets_the_configuration(run, flag, value, line, form):
    args = [f"--{flag}={value}"] if form == "--name=value" else [f"--{flag}", value]
    assert re.search(rf"^ *{re.escape(line)}$", parsed(run, "fit", *args), re.MULTILINE)


def test_a_numbered_device_becomes_a_list_of_one():
    assert translate(["fit", "--device=cuda:1"]) == ["fit", "--trainer.accelerator=cuda", "--trainer.devices=[1]"]


def test_on_a_cpu_nanogpt_computes_in_float32_unless_told_otherwise():
    assert "--trainer.precision=32-true" in translate(["fit", "--device=cpu"])
    assert translate(["fit", "--device=cpu", "--dtype=bfloat16"])[1:] == [
        "--trainer.accelerator=cpu",
        "--trainer.precision=bf16-mixed",
    ]


@pytest.mark.parametrize("name", ["shakespeare_char", "mine"])
def test_a_dataset_that_nanogpt_prepared_is_its_folder(name):
    prepare(f"data/{name}", VERSE)
    assert translate(["fit", f"--dataset={name}"]) == ["fit", f"--data.text={Path('data', name)}"]


@pytest.mark.parametrize("name", ["shakespeare", "openwebtext"])
def test_nanogpts_datasets_of_tokens_are_refused(run, name):
    assert refused(run, "fit", f"--dataset={name}") == (
        f"dataset ({name}) must be of characters, with a meta.pkl in data/{name}, because this package has no BPE "
        "tokens; name a text file instead, or use shakespeare_char"
    )


def test_a_folder_without_an_alphabet_has_tokens():
    for name in ("shakespeare_char", "mine"):
        prepare(f"data/{name}", VERSE).joinpath("meta.pkl").unlink()
        with pytest.raises(ConfigError, match=rf"^dataset \({name}\) must be of characters"):
            translate(["fit", f"--dataset={name}"])


def test_a_folder_that_is_not_prepared_is_no_dataset():
    Path("data/shakespeare_char").mkdir(parents=True)  # as in a clone of nanoGPT
    assert translate(["fit", "--dataset=shakespeare_char"]) == ["fit", "--data.text=tinyshakespeare"]


def batches(run, *args: str) -> tuple[int, int | None]:
    """Batches of a device per update, and between two evaluations."""
    trainer = yaml.safe_load(parsed(run, "fit", "--trainer.accelerator=cpu", *args))["trainer"]
    return trainer["accumulate_grad_batches"], trainer["val_check_interval"]


TOGETHER = ["--gradient_accumulation_steps=24", "--eval_interval=100"]
NODES = ["--trainer.num_nodes", "3"]
FSDP2 = ["--trainer.strategy", "ModelParallelStrategy", "--trainer.strategy.save_distributed_checkpoint", "false"]


@pytest.mark.parametrize(
    ("devices", "share"),
    [
        ([], 24),
        (["--trainer.devices", "2"], 12),
        (["--trainer.devices", "auto"], 24),  # one CPU
        (["--trainer.devices", "2", *NODES], 4),
        (["--trainer.devices", "4", "--backend=gloo"], 6),
        (["--trainer.devices", "2", *FSDP2], 12),
        (["--config", "eight.yaml"], 3),
    ],
    ids=["one", "two", "auto", "nodes", "backend", "FSDP2", "file"],
)
def test_devices_share_the_batches_of_an_update(run, devices, share):
    Path("eight.yaml").write_text("trainer:\n  devices: 8\n", encoding="utf-8")
    assert batches(run, *TOGETHER, *devices) == (share, 100 * share)


def test_torchruns_processes_are_counted(run, monkeypatch):
    torchrun = {"WORLD_SIZE": 6, "LOCAL_WORLD_SIZE": 2, "RANK": 0, "LOCAL_RANK": 0, "GROUP_RANK": 0}
    for name, value in torchrun.items():
        monkeypatch.setenv(name, str(value))
    for name in ("TORCHELASTIC_RUN_ID", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "1")
    assert batches(run, *TOGETHER, "--trainer.devices", "2", *NODES, "--trainer.strategy", "ddp") == (4, 400)


def test_a_number_of_batches_that_devices_cannot_share_is_refused(run):
    flags = ["--trainer.accelerator=cpu", "--trainer.devices=5", "--gradient_accumulation_steps=24"]
    assert refused(run, "fit", *flags) == (
        "gradient_accumulation_steps (24) must be divisible by the number of devices (5), "
        "because devices share the batches of an update; set another number with --gradient_accumulation_steps"
    )


def test_an_unknown_accelerator_is_refused_when_devices_are_counted(run):
    flags = ["--trainer.accelerator=abacus", "--gradient_accumulation_steps=4"]
    assert "accelerator" in refused(run, "fit", *flags)


def test_the_interval_counts_updates_however_their_batches_are_given(run):
    four = "--trainer.accumulate_grad_batches=4"
    Path("four.yaml").write_text("trainer:\n  accumulate_grad_batches: 4\n", encoding="utf-8")
    assert batches(run, four, "--eval_interval=100") == (4, 400)
    assert batches(run, "--config", "four.yaml", "--eval_interval=100") == (4, 400)
    scheduler = {"class_path": "GradientAccumulationScheduler", "init_args": {"scheduling": {0: 4}}}
    Path("scheduler.yaml").write_text(yaml.safe_dump({"trainer": {"callbacks": [scheduler]}}), encoding="utf-8")
    assert batches(run, "--config", "scheduler.yaml", "--eval_interval=100") == (1, 400), "4 once the run starts"
    assert batches(run, four, "--trainer.devices=2") == (4, None)
    assert batches(run, four, "--trainer.val_check_interval=8", "--gradient_accumulation_steps=6") == (4, 8)
    recipe = ["--config", "configs/shakespeare_char.yaml"]
    assert batches(run, *recipe, "--gradient_accumulation_steps=8", "--trainer.devices=2") == (4, 1000)


def test_validate_and_predict_ignore_the_counts(run, tiny_run):
    assert run("predict", *TOGETHER, "--trainer.devices=5", "--num_samples=1").code == 0


@pytest.mark.parametrize("value", ["often", "2.5", "-1"])
def test_a_count_is_a_whole_number(value):
    with pytest.raises(ConfigError) as error:
        take_counts(["fit", f"--eval_interval={value}"])
    assert str(error.value) == f"eval_interval ({value}) must be a whole number"


def test_the_seed_of_predict_is_that_of_the_samples():
    assert translate(["predict", "--seed=7"]) == ["predict", "--sample.seed=7"]


def test_resume_is_the_last_checkpoint_to_train_and_the_best_to_sample():
    assert translate(["fit", "--init_from=resume"]) == ["fit", "--ckpt_path=last"]
    assert translate(["predict", "--init_from=resume"]) == ["predict"]


def test_evaluation_only_is_what_validate_does():
    assert translate(["validate", "--eval_only=True"]) == translate(["validate", "--eval_only=False"]) == ["validate"]


def test_weights_and_biases_comes_with_project_and_name(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setattr("chargpt_lightning.utils.errors.find_spec", lambda name: name)
    args = translate(["fit", "--wandb_log=True", "--wandb_project=owt", "--wandb_run_name=mini"])
    assert args[1:] == ["--trainer.logger=Wandb", "--trainer.logger.project=owt", "--trainer.logger.name=mini"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--eval_only=True"], "eval_only (True) must be False; use `validate` instead of `fit`"),
        (["--init_from=gpt2-xl"], "init_from (gpt2-xl) must be scratch or resume, "),
        (["--dtype=int8"], "dtype (int8) must be one of float32, bfloat16, float16"),
        (["--wandb_log=True"], "wandb_log (True) needs the package wandb: pip install wandb"),
        (["--n_layer"], "--n_layer must be followed by a value"),
    ],
)
def test_a_flag_without_counterpart_is_refused_with_what_to_use(args, message, monkeypatch):
    monkeypatch.setattr("chargpt_lightning.utils.errors.find_spec", lambda name: None)
    with pytest.raises(ConfigError) as error:
        translate(["fit", *args])
    assert str(error.value).startswith(message)


def test_other_flags_are_unchanged():
    args = ["predict", "--config", "a.yaml", "--n_layer=3", "--data.text", "b.txt"]
    assert translate(args) == ["predict", "--model.n_layer=3", "--config", "a.yaml", "--data.text", "b.txt"]
    assert translate(["predict", "--sample.prompt", "a=b"]) == ["predict", "--sample.prompt", "a=b"]


def test_the_packages_spelling_overrides_nanogpts(run):
    assert "n_layer: 5\n" in parsed(run, "fit", "--model.n_layer", "5", "--n_layer=3")


def test_the_docs_list_every_flag_with_its_setting():
    rows = re.findall(
        r"^\| `--(\w+)` \| (.+?) \|$", (ROOT / "docs" / "nanogpt.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    table = dict(rows)
    assert set(table) == set(RENAMED) | set(OTHERS) | set(COUNTS)
    for flag, setting in (RENAMED | COUNTS).items():
        assert table[flag].startswith(f"`--{setting}`"), flag
