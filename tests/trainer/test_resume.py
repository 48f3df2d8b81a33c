"""A run that was stopped and resumed is the run that was never stopped, to the last bit."""

import re
import shlex
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from support.command_line import FAST, TINY, VERSE, assert_same_run, refused, rows, states
from support.nanogpt_folder import prepare
from support.platforms import compiles

from chargpt_lightning import CharGPT
from chargpt_lightning.callbacks.count_updates import batches_after, batches_of
from chargpt_lightning.optim.lr_schedule import learning_rate_at

RUN = [*TINY, "--trainer.max_steps", "10", "--trainer.val_check_interval", "4"]
AVERAGE = ["--trainer.callbacks", "EMAWeightAveraging", "--trainer.callbacks.decay", "0.5"]
SETTINGS = {
    "dropout": ["--model.dropout", "0.2"],
    "bf16": ["--trainer.precision", "bf16-mixed", "--trainer.gradient_clip_val", "1", "--model.dropout", "0.2"],
    "accumulated": ["--trainer.accumulate_grad_batches", "2", "--trainer.val_check_interval", "8"],
    "accumulated with dropout": ["--trainer.accumulate_grad_batches", "2", "--model.dropout", "0.2"],
    "workers": ["--data.num_workers", "2", "--model.dropout", "0.2"],
    "averaged": [*AVERAGE, "--model.dropout", "0.2"],
    "fast": [*FAST, "--model.dropout", "0.2", "--trainer.gradient_clip_val", "1"],
    "fast in bf16, accumulated": [*FAST, "--trainer.precision", "bf16-mixed", "--trainer.accumulate_grad_batches", "2"],
    "rates of every update": ["--trainer.callbacks", "LearningRateMonitor"],
}


@pytest.mark.parametrize("stop", [0, 2, 3, 4, 8])
def test_a_resumed_run_is_the_run_that_was_never_stopped(run, interrupt, stop):
    assert run(*RUN).code == 0
    interrupt(stop)
    stopped = run(*RUN)
    assert stopped.code == 130
    (command,) = re.findall(r"^resume: chargpt (.*)$", stopped.err, re.MULTILINE)
    assert run(*shlex.split(command)).code == 0
    assert_same_run(Path("runs/version_0"), Path("runs/version_1"))


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_whatever_the_settings(run, interrupt, settings):
    assert run(*RUN, *settings).code == 0
    interrupt(2, 3, 6)
    assert run(*RUN, *settings).code == 130
    assert run("fit", "--ckpt_path", "last").code == 130
    assert run("fit", "--ckpt_path", "last").code == 130
    assert run("fit", "--ckpt_path", "last").code == 0
    assert_same_run(Path("runs/version_0"), Path("runs/version_1"))


def evaluated(run_dir: Path) -> list[str]:
    return [row["step"] for row in rows(run_dir) if row["val/loss"]]


@pytest.mark.parametrize("saved", ["update", "evaluation"])
def test_another_accumulation_counts_its_batches_from_the_step(run, interrupt, saved):
    interval = {"update": "5", "evaluation": "3"}[saved]
    interrupt(2)
    assert run(*RUN, "--trainer.val_check_interval", interval).code == 130
    more = ["--trainer.accumulate_grad_batches", "2", "--trainer.val_check_interval", "8"]
    interrupt(7)
    assert run("fit", "--ckpt_path", "last", *more).code == 130
    assert evaluated(Path("runs/version_0"))[-2:] == ["4", "8"]
    assert states(Path("runs/version_0"))["last"]["global_step"] == 8
    assert run("fit", "--ckpt_path", "last").code == 0
    counts = states(Path("runs/version_0"))["last"]["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    assert counts["total"] == counts["current"] == dict.fromkeys(("ready", "started", "processed", "completed"), 20)


def test_each_update_after_a_change_of_accumulation_has_all_its_batches(run, monkeypatch):
    assert run(*RUN, "--trainer.max_steps", "3").code == 0
    batches = Counter()
    step = CharGPT.training_step

    def training_step(module, batch, batch_idx):
        batches[module.global_step] += 1
        return step(module, batch, batch_idx)

    monkeypatch.setattr(CharGPT, "training_step", training_step)
    more = ["--trainer.accumulate_grad_batches", "2", "--trainer.max_steps", "6"]
    assert run("fit", "--ckpt_path", "last", *more).code == 0
    assert batches == {3: 2, 4: 2, 5: 2}


@pytest.mark.parametrize(
    ("updates", "accumulated", "in_epoch", "batches"),
    [(7, 1, None, (7, 7)), (7, 3, None, (21, 21)), (7, 2, 5, (12, 2)), (6, 2, 5, (10, 0)), (3, 4, 8, (12, 4))],
)
def test_batches_of_so_many_updates(updates, accumulated, in_epoch, batches):
    assert batches_after(updates, accumulated, in_epoch) == batches
    trainer = SimpleNamespace(limit_train_batches=in_epoch or 1.0, accumulate_grad_batches=accumulated)
    assert batches_of(updates, trainer) == batches


def test_no_batches_are_counted_like_batches_without_end():
    assert batches_of(5, SimpleNamespace(limit_train_batches=0, accumulate_grad_batches=2)) == (10, 10)


def test_a_checkpoint_outside_a_run_brings_its_settings_for_training(run):
    clip = ["--trainer.gradient_clip_val", "0.5", "--trainer.accumulate_grad_batches", "2"]
    assert run(*RUN, *clip).code == 0
    Path("runs/version_0/checkpoints/last.ckpt").rename("carried.ckpt")
    result = run("fit", "--ckpt_path", "carried.ckpt", "--trainer.accelerator", "cpu", "--trainer.max_steps", "12")
    assert result.code == 0, result.err
    was, is_now = (yaml.safe_load(Path(f"runs/version_{n}/config.yaml").read_text(encoding="utf-8")) for n in (0, 1))
    for name in ("gradient_clip_val", "accumulate_grad_batches", "val_check_interval", "log_every_n_steps"):
        assert is_now["trainer"][name] == was["trainer"][name], name
    for name in ("batch_size", "eval_iters"):
        assert is_now["data"][name] == was["data"][name], name


def test_a_checkpoint_outside_a_run_trains_on_more_devices_than_can_share_its_batches(run):
    assert run(*RUN).code == 0
    Path("runs/version_0/checkpoints/last.ckpt").rename("carried.ckpt")
    carried = ["fit", "--ckpt_path", "carried.ckpt", "--trainer.accelerator", "cpu", "--trainer.devices", "2"]
    result = run(*carried, "--print_config")
    assert yaml.safe_load(result.out)["trainer"]["accumulate_grad_batches"] == 1
    assert (
        "changed: 1 batches per update cannot be shared equally by 2 devices; each device uses one batch" in result.err
    )


def test_whatever_the_folder(run, interrupt):
    prepare("nano", VERSE * 20, alphabet="z" + "".join(sorted(set(VERSE), reverse=True)), border=340)
    on_folder = [*RUN, "--data.text", "nano"]
    assert run(*on_folder).code == 0
    interrupt(3)
    assert run(*on_folder).code == 130
    resumed = run("fit", "--ckpt_path", "last")
    assert resumed.code == 0
    assert "changed" not in resumed.err
    assert_same_run(Path("runs/version_0"), Path("runs/version_1"))


@compiles
@pytest.mark.slow
@pytest.mark.parametrize("network", [[], FAST], ids=["gpt2", "fast"])
def test_compiled_too(run, interrupt, network):
    compiled = ["--model.compile", "true", "--model.dropout", "0.2", *network]
    assert run(*RUN, *compiled).code == 0
    interrupt(2, 6)
    assert run(*RUN, *compiled).code == 130
    assert run("fit", "--ckpt_path", "last").code == 130
    assert run("fit", "--ckpt_path", "last").code == 0
    assert_same_run(Path("runs/version_0"), Path("runs/version_1"))


def test_a_run_goes_on_from_any_directory_and_after_it_was_moved(run, interrupt, tmp_path, monkeypatch):
    assert run(*RUN).code == 0
    interrupt(5)
    run(*RUN)
    Path("runs/version_1").rename("moved")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    result = run("fit", "--ckpt_path", "../work/moved/checkpoints/last.ckpt", "--trainer.default_root_dir", "here")
    assert result.code == 0
    assert re.search(r"^trainer.default_root_dir \(.*/here\) is ignored: the run is in ../work$", result.err, re.M)
    assert not re.search(r"^changed: ", result.err, re.MULTILINE)
    assert list(Path().iterdir()) == []
    assert_same_run(Path("../work/runs/version_0"), Path("../work/moved"))


@pytest.mark.parametrize("gone", ["best", "last"])
def test_where_one_checkpoint_is_left_it_is_taken_for_the_other(run, tiny_run, gone):
    history = (tiny_run / "metrics.csv").read_text(encoding="utf-8")
    (tiny_run / f"checkpoints/{gone}.ckpt").unlink()
    assert run("fit", "--ckpt_path", gone, "--trainer.max_steps", "6").code == 0
    assert (tiny_run / "metrics.csv").read_text(encoding="utf-8").startswith(history)


def test_best_stays_best(run):
    """A learning rate that ruins the network: what was best before the stop is best after it."""
    assert run(*RUN).code == 0
    best = Path("runs/version_0/checkpoints/best.ckpt").read_bytes()
    ruin = ["--trainer.max_steps", "20", "--model.learning_rate", "10", "--model.min_lr", "10"]
    result = run("fit", "--ckpt_path", "last", *ruin)
    assert result.code == 0
    assert Path("runs/version_0/checkpoints/best.ckpt").read_bytes() == best
    assert "at step 10: runs/version_0/checkpoints/best.ckpt" in result.err


def test_a_checkpoint_outside_a_run_starts_a_new_one_with_its_network(run):
    assert run(*RUN).code == 0
    Path("runs/version_0/checkpoints/last.ckpt").rename("carried.ckpt")
    rest = ["--trainer.accelerator", "cpu", "--trainer.max_steps", "12", "--data.eval_iters", "2"]
    result = run("fit", "--ckpt_path", "carried.ckpt", *rest)
    assert result.code == 0
    assert "resuming in a new directory at step 10" in result.err
    assert {path.name for path in Path("runs/version_1/checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert states(Path("runs/version_1"))["last"]["hyper_parameters"]["n_embd"] == 8


def test_rows_that_are_gone_are_said_to_be_gone(run, tiny_run):
    lines = (tiny_run / "metrics.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    strange = "\xff,a,row,of,too,many,fields,and,no,figures"
    (tiny_run / "metrics.csv").write_text("".join(lines[:4]) + strange, encoding="utf-8")
    result = run("fit", "--ckpt_path", "last", "--trainer.max_steps", "6")
    assert result.code == 0
    assert f"runs/version_0/metrics.csv has lost {len(lines) - 5} of the {len(lines) - 1} rows before the" in result.err


def test_a_finished_run_says_so_and_is_left_alone(run, tiny_run):
    before = {path: path.stat().st_mtime_ns for path in tiny_run.rglob("*")}
    result = run("fit", "--ckpt_path", "last")
    assert result.code == 0
    assert "finished: at step 5 of 5; a larger trainer.max_steps continues it" in result.err
    assert {path: path.stat().st_mtime_ns for path in tiny_run.rglob("*")} == before


def test_a_larger_max_steps_goes_on_and_nanogpts_flag_does_it_too(run, tiny_run):
    result = run("fit", "--init_from=resume", "--max_iters=8")
    assert result.code == 0
    assert "resuming runs/version_0 at step 5" in result.err
    assert re.findall(r"^changed: (.*)$", result.err, re.MULTILINE) == ["trainer.max_steps is 8, was 5"]
    assert [row["step"] for row in rows(tiny_run) if row["train/loss"]] == [str(step) for step in range(8)]
    moved = run("fit", "--ckpt_path", "last", "--trainer.max_steps", "9", "--model.lr_decay_iters", "9")
    assert "changed: model.lr_decay_iters is 9, was 2000, so the schedule ends elsewhere\n" in moved.err


@pytest.mark.parametrize("by", ["flag", "file"])
def test_training_settings_that_differ_are_applied(run, tiny_run, by):
    schedule = {"learning_rate": 0.1, "min_lr": 0.02, "warmup_iters": 1, "lr_decay_iters": 9}
    model = {**schedule, "weight_decay": 0.3, "beta1": 0.5, "beta2": 0.6, "dropout": 0.3}
    Path("other.yaml").write_text(yaml.safe_dump({"model": model, "data": {"batch_size": 3}}), encoding="utf-8")
    flags = [arg for name, value in model.items() for arg in (f"--model.{name}", str(value))]
    differ = ["-c", "other.yaml"] if by == "file" else [*flags, "--data.batch_size", "3"]
    result = run("fit", "--ckpt_path", "last", "--trainer.max_steps", "8", *differ)
    assert result.code == 0
    for name, value in {"model.learning_rate": 0.1, "model.dropout": 0.3, "data.batch_size": 3}.items():
        assert f"changed: {name} is {value}, was " in result.err
    rates = [float(row["lr"]) for row in rows(tiny_run) if row["lr"]]
    assert rates[5:] == pytest.approx([learning_rate_at(step, **schedule) for step in (5, 6, 7)], rel=1e-12)
    last = states(tiny_run)["last"]
    for group, decay in zip(last["optimizer_states"][0]["param_groups"], (0.3, 0.0), strict=True):
        assert (tuple(group["betas"]), group["weight_decay"]) == ((0.5, 0.6), decay)
    assert model.items() <= last["hyper_parameters"].items()
    saved = yaml.safe_load((tiny_run / "config.yaml").read_text(encoding="utf-8"))
    assert model.items() <= saved["model"].items()
    assert saved["data"]["batch_size"] == 3


def test_settings_changed_once_stay_changed(run, tiny_run):
    run("fit", "--ckpt_path", "last", "--trainer.max_steps", "6", "--model.learning_rate", "0.5")
    result = run("fit", "--ckpt_path", "last", "--trainer.max_steps", "7")
    assert "model.learning_rate" not in result.err
    assert float(rows(tiny_run)[-2]["lr"]) == pytest.approx(0.5, rel=1e-3)


def test_print_config_shows_what_a_resumed_run_would_do(run, tiny_run):
    config = yaml.safe_load(run("fit", "--ckpt_path", "last", "--model.dropout", "0.1", "--print_config").out)
    assert (config["model"]["n_embd"], config["model"]["dropout"], config["trainer"]["max_steps"]) == (8, 0.1, 5)


@pytest.mark.parametrize("subcommand", ["fit", "validate", "predict"])
@pytest.mark.parametrize(
    ("name", "value", "has"),
    [
        ("model.n_layer", "2", "1"),
        ("model.n_head", "4", "2"),
        ("model.n_embd", "16", "8"),
        ("model.block_size", "4", "8"),
        ("model.bias", "true", "False"),
        ("model.architecture", "modern", "'gpt2'"),
        ("model.optimizer", "muon", "'adamw'"),
        ("data.alphabet", "ab", r"'\n ,.?IWaegh...,IWaeghilmnorstuw?'"),
    ],
)
def test_another_network_than_the_checkpoints_is_refused_by_name(run, tiny_run, subcommand, name, value, has):
    message = refused(run, subcommand, "--ckpt_path", str(tiny_run / "checkpoints/last.ckpt"), f"--{name}", value)
    assert re.match(rf"{name} \({value}\) must be ", message.replace(repr(value), value).replace("True", "true"))
    assert message.endswith("for the network of runs/version_0/checkpoints/last.ckpt, or not be given")
    if name != "data.alphabet":
        assert f" must be {has} " in message


def test_a_file_of_settings_with_another_network_is_refused_too(run, tiny_run):
    message = refused(run, "fit", "--config", "configs/shakespeare_char.yaml", "--ckpt_path", "last")
    assert message.startswith("trainer.default_root_dir (runs/shakespeare_char) must contain a run")
    message = refused(run, "predict", "-c", "configs/shakespeare_char.yaml", "--trainer.default_root_dir", "runs")
    assert message.startswith("model.block_size (64) must be 8 for the network of ")


@pytest.mark.parametrize("subcommand", ["fit", "validate"])
def test_another_text_is_refused_unless_any_is_allowed(run, tiny_run, subcommand):
    Path("other.txt").write_text(Path("verse.txt").read_text(encoding="utf-8")[::-1], encoding="utf-8")
    more = ["--trainer.max_steps", "6"] if subcommand == "fit" else []
    args = [subcommand, "--ckpt_path", "runs/version_0/checkpoints/last.ckpt", *more, "--data.text", "other.txt"]
    message = refused(run, *args)
    assert re.match(r"data.text \(other.txt\) must have the SHA-256 \w{64}, but has \w{64}; ", message)
    result = run(*args, "--data.sha256", "null")
    assert result.code == 0
    if subcommand == "fit":
        assert re.search(r"^changed: data.text is other.txt, was ", result.err, re.MULTILINE)


def test_a_text_that_was_edited_under_its_name_is_refused(run, tiny_run):
    with Path("verse.txt").open("a", encoding="utf-8") as file:
        file.write("When?\n")
    assert "must have the SHA-256" in refused(run, "fit", "--ckpt_path", "last", "--trainer.max_steps", "6")
    assert "must have the SHA-256" in refused(run, "validate")


def test_a_saved_config_pins_its_text(run, tiny_run):
    assert run("fit", "--config", str(tiny_run / "config.yaml")).code == 0
    Path("verse.txt").write_text(Path("verse.txt").read_text(encoding="utf-8")[::-1], encoding="utf-8")
    assert "must have the SHA-256" in refused(run, "fit", "--config", str(tiny_run / "config.yaml"))


def test_the_newest_run_is_meant_even_if_it_has_nothing_to_continue_after(run, tiny_run):
    run(*TINY, "--trainer.enable_checkpointing", "false")
    for args in (["fit", "--ckpt_path", "last"], ["predict"]):
        message = refused(run, *args)
        assert "must be in the newest run, but runs/version_1 has no checkpoint yet; to use an earlier one: " in message


@pytest.mark.parametrize(
    "lost",
    [
        lambda checkpoint: [checkpoint.pop(name) for name in ("optimizer_states", "lr_schedulers")],
        lambda checkpoint: checkpoint["optimizer_states"].clear(),
        lambda checkpoint: checkpoint["optimizer_states"][0]["state"].clear(),
        lambda checkpoint: checkpoint["lr_schedulers"].clear(),
        lambda checkpoint: checkpoint.pop("loops"),
    ],
)
def test_weights_alone_can_be_sampled_from_and_begin_a_run_but_no_run_goes_on_from_them(run, tiny_run, lost):
    path = tiny_run / "checkpoints/last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    lost(checkpoint)
    torch.save(checkpoint, path)
    holds = "must hold the optimizer's state for runs/version_0 to go on, but holds only weights"
    message = f"ckpt_path ({path.as_posix()}) {holds}"
    assert refused(run, "fit", "--ckpt_path", "last", "--trainer.max_steps", "6") == message
    assert run("predict", "--ckpt_path", "last", "--num_samples=1").code == 0
    path.rename("weights.ckpt")
    result = run(*TINY, "--ckpt_path", "weights.ckpt", "--trainer.max_steps", "6")
    assert "starting at step 0 with the weights of weights.ckpt, which contains no optimizer state" in result.err
    assert rows(Path("runs/version_1"))[0]["val/loss"] == rows(tiny_run)[-1]["val/loss"]


def test_an_untrained_network_is_never_sampled(run, tiny_run):
    path = tiny_run / "checkpoints/last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    torch.save(checkpoint | {"global_step": 0}, path)
    message = f"ckpt_path ({path.as_posix()}) must be of a trained network, but it has made 0 updates"
    assert refused(run, "predict", "--ckpt_path", "last") == message


def test_weights_of_another_shape_than_the_checkpoint_says_are_refused(run, tiny_run):
    path = tiny_run / "checkpoints/last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["hyper_parameters"]["n_layer"] = 2
    torch.save(checkpoint, path)
    message = refused(run, "predict", "--ckpt_path", "last")
    name = "gpt.transformer.h.1.attn.c_attn.weight"
    assert message == f"ckpt_path: {name} (absent) must be as in this network (24 x 8)"
