"""What a command takes over from a checkpoint, which settings may change on resume, and what is refused."""

import re
from pathlib import Path

import pytest
import torch
import yaml
from jsonargparse import Namespace
from support.command_line import TINY, assert_same_run, files, refused, rows, states

from chargpt_lightning.optim.lr_schedule import learning_rate_at
from chargpt_lightning.trainer.resume import Origin

RUN = [*TINY, "--trainer.max_steps", "10", "--trainer.val_check_interval", "4"]


def test_a_checkpoint_outside_a_run_has_its_training_settings(run):
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


def test_a_run_resumes_from_any_directory_and_after_it_was_moved(run, interrupt, tmp_path, monkeypatch):
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


def test_a_checkpoint_outside_a_run_starts_a_new_one_with_its_network(run):
    assert run(*RUN).code == 0
    Path("runs/version_0/checkpoints/last.ckpt").rename("carried.ckpt")
    rest = ["--trainer.accelerator", "cpu", "--trainer.max_steps", "12", "--data.eval_iters", "2"]
    result = run("fit", "--ckpt_path", "carried.ckpt", *rest)
    assert result.code == 0
    assert "resuming in a new directory at step 10" in result.err
    assert {path.name for path in Path("runs/version_1/checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert states(Path("runs/version_1"))["last"]["hyper_parameters"]["n_embd"] == 8


def test_a_finished_run_is_reported_and_not_changed(run, tiny_run):
    before = {path: path.stat().st_mtime_ns for path in tiny_run.rglob("*")}
    result = run("fit", "--ckpt_path", "last")
    assert result.code == 0
    assert "finished: the run is at step 5 of 5; a larger --trainer.max_steps extends it" in result.err
    assert {path: path.stat().st_mtime_ns for path in tiny_run.rglob("*")} == before


def test_a_larger_max_steps_resumes_a_finished_run(run, tiny_run):
    result = run("fit", "--init_from=resume", "--max_iters=8")
    assert result.code == 0
    assert "resuming runs/version_0 at step 5" in result.err
    assert re.findall(r"^changed: (.*)$", result.err, re.MULTILINE) == ["trainer.max_steps is 8, was 5"]
    assert [row["step"] for row in rows(tiny_run) if row["train/loss"]] == [str(step) for step in range(8)]
    moved = run("fit", "--ckpt_path", "last", "--trainer.max_steps", "9", "--model.lr_decay_iters", "9")
    assert (
        "changed: model.lr_decay_iters is 9, was 2000, so the learning rate decay ends at another step\n" in moved.err
    )


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
def test_settings_of_another_network_are_refused_by_name(run, tiny_run, subcommand, name, value, has):
    message = refused(run, subcommand, "--ckpt_path", str(tiny_run / "checkpoints/last.ckpt"), f"--{name}", value)
    assert re.match(rf"{name} \({value}\) must be ", message.replace(repr(value), value).replace("True", "true"))
    assert message.endswith("for the network of runs/version_0/checkpoints/last.ckpt, or not given")
    if name != "data.alphabet":
        assert f" must be {has} " in message


def test_a_file_with_settings_of_another_network_is_refused(run, tiny_run):
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
def test_weights_without_optimizer_state_start_a_run_but_do_not_resume_one(run, tiny_run, lost):
    path = tiny_run / "checkpoints/last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    lost(checkpoint)
    torch.save(checkpoint, path)
    holds = "must contain the optimizer's state to resume runs/version_0, but contains only weights"
    message = f"ckpt_path ({path.as_posix()}) {holds}"
    assert refused(run, "fit", "--ckpt_path", "last", "--trainer.max_steps", "6") == message
    assert run("predict", "--ckpt_path", "last", "--num_samples=1").code == 0
    path.rename("weights.ckpt")
    result = run(*TINY, "--ckpt_path", "weights.ckpt", "--trainer.max_steps", "6")
    assert "starting at step 0 with the weights of weights.ckpt, which contains no optimizer state" in result.err
    assert rows(Path("runs/version_1"))[0]["val/loss"] == rows(tiny_run)[-1]["val/loss"]


@pytest.mark.parametrize("name", ["id", "version", "run_id", "experiment_key"])
def test_a_branch_does_not_reuse_the_ids_of_loggers(name):
    arguments = {name: "old", "project": "p"}
    old = Path("runs/version_0")
    old.mkdir(parents=True)
    before = {"trainer": {"logger": {"class_path": "Logger", "init_args": arguments}}}
    (old / "config.yaml").write_text(yaml.safe_dump(before), encoding="utf-8")
    logger = Namespace(class_path="Logger", init_args=Namespace(arguments))
    Origin(old, None, None, old, last_step=8)._forget_ids(Namespace(logger=logger))
    assert logger.init_args.as_dict() == {name: None, "project": "p"}


@pytest.mark.parametrize("name", ["runs/version_0", "../work/runs/version_0", ["runs"], None])
def test_a_checkpoint_that_names_a_run_elsewhere_does_not_change_it(run, tiny_run, name):
    checkpoint = torch.load(tiny_run / "checkpoints/last.ckpt", weights_only=True)
    torch.save(checkpoint | {"history": {"run": name, "rows": 0}}, "lone.ckpt")
    before = {path: Path(path).read_bytes() for path in files() if Path(path).is_file()}
    more = ["--trainer.accelerator", "cpu", "--trainer.max_steps", "6"]
    assert run("fit", "--ckpt_path", "lone.ckpt", *more).code == 0
    assert {path: Path(path).read_bytes() for path in before} == before
