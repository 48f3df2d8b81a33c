"""TensorBoard and W&B beside metrics.csv: what their own readers find of a run."""

import json
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from socket import socket
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest
import torch
import wandb
from lightning.pytorch.loggers import WandbLogger
from support.command_line import TINY, refused, rows
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb.proto.wandb_internal_pb2 import Record

from chargpt_lightning.loggers.wandb import Wandb

LOGGED = {
    *("train/loss", "lr", "grad_norm", "val/loss", "val/perplexity", "val/characters", "train_eval/loss"),
    *("tokens_per_second", "mfu"),
}
RUN, BRANCH = Path("runs/version_0"), Path("runs/version_1")
TENSORBOARD = ["--trainer.logger", "TensorBoard"]
BOTH = """
trainer:
  logger:
    - class_path: TensorBoard
    - class_path: Wandb
"""
Columns = dict[str, list[tuple[int, float]]]


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """W&B stays on this machine, and its run ends with the test, as it does with a user's process."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    yield
    wandb.finish()
    wandb.teardown()


def in_csv(run_dir: Path = RUN) -> Columns:
    """The figures of metrics.csv in single precision, which is TensorBoard's, by name and step."""
    table = rows(run_dir)
    return {
        name: [(int(row["step"]), torch.tensor(float(row[name])).item()) for row in table if row[name]]
        for name in table[0].keys() - {"step"}
    }


def tensorboard(run_dir: Path = RUN) -> EventAccumulator:
    events = EventAccumulator(str(run_dir))
    events.Reload()
    return events


def in_tensorboard(run_dir: Path = RUN) -> Columns:
    events = tensorboard(run_dir)
    names = set(events.Tags()["scalars"]) - {"epoch"}  # Lightning's
    return {name: [(event.step, event.value) for event in events.Scalars(name)] for name in names}


def samples_in_tensorboard(run_dir: Path = RUN) -> dict[int, str]:
    events = tensorboard(run_dir).Tensors("sample/text_summary")
    texts = {event.step: event.tensor_proto.string_val[0].decode() for event in events}
    return {step: "\n".join(line[4:] for line in text.split("\n")) for step, text in texts.items()}


def wandb_records(run_dir: Path = RUN) -> list[Record]:
    """What W&B would send, in order. Its own process may write the end of a file after `wandb.finish` returned."""
    for _ in range(600):
        files = [
            [Record.FromString(data) for data in leveldb_records(path.read_bytes())]
            for path in sorted(run_dir.glob("wandb/*run-*/run-*.wandb"))
        ]
        if files and all(records and any(record.HasField("exit") for record in records) for records in files):
            return [record for records in files for record in records]
        time.sleep(0.1)
    raise AssertionError(f"W&B's files in {run_dir} have no end after a minute")


def leveldb_records(log: bytes) -> Iterator[bytes]:
    """W&B's file is LevelDB's log, with the first block's first seven bytes W&B's own; its reader is not in Python."""
    whole, place = b"", 7
    while place + 7 <= len(log):
        if 2**15 - place % 2**15 < 7:  # no room for a header: the block's end is empty
            place += 2**15 - place % 2**15
            continue
        length, kind = struct.unpack_from("<HB", log, place + 4)
        if place + 7 + length > len(log):  # still being written
            return
        whole += log[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # full, or the last part
            yield whole
            whole = b""


def in_wandb(run_dir: Path = RUN) -> Columns:
    columns: Columns = {}
    for record in wandb_records(run_dir):
        row = {"/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        for name in row.keys() & LOGGED:
            step = row["trainer/global_step"]
            columns.setdefault(name, []).append((step, torch.tensor(row[name]).item()))
    return columns


def test_tensorboard_has_every_figure_of_metrics_csv_and_a_sample_at_each_evaluation(run):
    assert run(*TINY, "--trainer.logger", "TensorBoard").code == 0
    assert in_csv().keys() == LOGGED
    assert in_tensorboard() == in_csv()
    assert list(samples_in_tensorboard()) == [step for step, _ in in_csv()["val/loss"]] == [0, 2, 4, 5]


def test_a_sample_is_what_predict_writes_first(run):
    sampling = ["--sample.prompt", "When shall", "--sample.temperature", "0.7", "--sample.max_new_tokens", "40"]
    assert run(*TINY, *sampling, "--trainer.logger", "TensorBoard").code == 0
    last = ["--ckpt_path", "last", "--sample.num_samples", "1", "--trainer.accelerator", "cpu"]
    assert run("predict", *last, *sampling).out == samples_in_tensorboard()[5] + "\n"


@pytest.mark.parametrize("steps", [2, 5])
def test_a_sample_of_averaged_weights_is_what_predict_writes(run, steps):
    """And not what the weights that are trained on would write."""
    average = ["--trainer.callbacks", "EMAWeightAveraging", "--trainer.callbacks.decay", "0.8"]
    length, fast = ["--sample.max_new_tokens", "60"], ["--model.learning_rate", "0.3", "--model.warmup_iters", "0"]
    assert run(*TINY, *average, *fast, *length, "--trainer.max_steps", str(steps), *TENSORBOARD).code == 0
    last = ["--ckpt_path", "last", "--sample.num_samples", "1", "--trainer.accelerator", "cpu"]
    logged = samples_in_tensorboard()[steps] + "\n"
    assert run("predict", *last, *length).out == logged
    path = RUN / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(path)
    torch.save(checkpoint | {"state_dict": checkpoint["current_model_state"]}, path)
    assert run("predict", *last, *length).out != logged


def test_a_sample_for_a_logger_is_short(run):
    assert run(*TINY, "--trainer.logger", "TensorBoard").code == 0
    assert {len(text) for text in samples_in_tensorboard().values()} == {len("\n") + 200}


def test_wandb_has_every_figure_and_every_sample(run):
    flags = ["--wandb_log=True", "--wandb_project=verses", "--wandb_run_name=first"]  # nanoGPT's
    assert run(*TINY, *flags).code == 0
    wandb.finish()
    assert in_wandb() == in_csv()
    (settings,) = [record.run for record in wandb_records() if record.HasField("run")]
    assert (settings.project, settings.display_name) == ("verses", "first")
    tables = [
        json.loads(path.read_text(encoding="utf-8"))
        for path in RUN.glob("wandb/*run-*/files/media/table/sample_*.json")
    ]
    assert sorted(int(step) for table in tables for step, _ in table["data"]) == [0, 2, 4, 5]
    assert not Path("wandb").exists()


def test_both_come_from_three_lines_of_yaml_each_with_the_runs_own_name(run):
    Path("both.yaml").write_text(BOTH, encoding="utf-8")
    assert run(*TINY, "--config", "both.yaml").code == 0
    wandb.finish()
    assert in_tensorboard() == in_wandb() == in_csv()
    (settings,) = [record.run for record in wandb_records() if record.HasField("run")]
    assert settings.display_name == "runs/version_0"


def test_a_run_that_crashed_and_goes_on_is_one_run_to_both(run, during):
    Path("both.yaml").write_text(BOTH, encoding="utf-8")
    assert run(*TINY).code == 0

    def crash():
        raise RuntimeError("power cut")

    during(3, happens=crash)
    with pytest.raises(RuntimeError, match="power cut"):
        run(*TINY, "--config", "both.yaml")
    wandb.finish()
    assert run("fit", "--ckpt_path", "last").code == 0
    wandb.finish()
    again = Path("runs/version_1")
    exact = LOGGED - {"tokens_per_second", "mfu"}
    unbroken = {name: in_csv()[name] for name in exact}
    assert {name: in_csv(again)[name] for name in exact} == unbroken
    twice = {name: in_tensorboard(again)[name] for name in exact}  # the update that the checkpoint was before
    assert {name: sorted(set(points)) for name, points in twice.items()} == unbroken
    assert list(samples_in_tensorboard(again)) == [0, 2, 4, 5]
    assert len({record.run.run_id for record in wandb_records(again) if record.HasField("run")}) == 1


@pytest.mark.parametrize("given", [[], ["--trainer.logger.id", "abc"]], ids=["W&B's id", "the user's id"])
def test_a_branch_is_a_run_of_its_own_to_wandb(run, given):
    assert run(*TINY, "--trainer.max_steps", "2", "--trainer.logger", "Wandb", *given).code == 0
    older = RUN / "checkpoints/older.ckpt"
    older.write_bytes((RUN / "checkpoints/last.ckpt").read_bytes())
    for checkpoint, steps in (("last", "4"), (str(older), "4"), ("last", "5")):
        wandb.finish()
        assert run("fit", "--ckpt_path", checkpoint, "--trainer.max_steps", steps).code == 0
    ids = [[path.name.rsplit("-", 1)[1] for path in one.glob("wandb/*run-*-*")] for one in (RUN, BRANCH)]
    assert [len(set(of_run)) for of_run in ids] == [1, 1]
    assert set(ids[0]) != set(ids[1])


def test_being_watched_changes_nothing(run):
    assert run(*TINY, "--model.dropout", "0.3").code == 0
    assert run(*TINY, "--model.dropout", "0.3", "--trainer.logger", "TensorBoard").code == 0
    alone, watched = (torch.load(f"runs/version_{n}/checkpoints/last.ckpt")["state_dict"] for n in (0, 1))
    assert all(torch.equal(alone[name], watched[name]) for name in alone)


@pytest.mark.parametrize(("logger", "package"), [("TensorBoard", "tensorboard"), ("Wandb", "wandb")])
def test_a_missing_package_is_named(run, monkeypatch, logger, package):
    monkeypatch.setattr("chargpt_lightning.utils.errors.find_spec", lambda name: None)
    message = f"trainer.logger ({logger}) needs the package {package}: pip install {package}"
    assert message in refused(run, *TINY, "--trainer.logger", logger)


@pytest.mark.slow  # it starts a server
def test_tensorboards_own_server_shows_runs_by_their_paths(run):
    for _ in range(2):
        assert run(*TINY, "--trainer.logger", "TensorBoard").code == 0
    with socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen([sys.executable, "-m", "tensorboard.main", "--logdir", "runs", "--port", str(port)])
    try:
        assert sorted(answer(port, "runs")) == ["version_0", "version_1"]
        tags = answer(port, "plugin/scalars/tags")
        assert tags["version_1"].keys() >= LOGGED
        assert answer(port, "plugin/text/tags")["version_0"] == ["sample/text_summary"]
    finally:
        server.terminate()
        server.wait()


def answer(port: int, what: str) -> Any:
    """What the server says, once it has started."""
    for _ in range(120):
        try:
            with urlopen(f"http://127.0.0.1:{port}/data/{what}") as reply:
                if content := json.load(reply):
                    return content
        except URLError:
            pass
        time.sleep(0.5)
    raise AssertionError(f"no {what} after a minute")


def test_a_prompt_that_the_text_has_not_is_refused_before_the_run_begins(run):
    result = run(*TINY, "--trainer.logger", "TensorBoard", "--sample.prompt", "Ω")
    assert result.code == 1
    assert "error: prompt ('Ω' at position 0) must use only the" in result.err
    assert not Path("runs").exists()


def test_wandb_without_a_login_is_a_line(run, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "online")
    result = run(*TINY, "--trainer.logger", "Wandb")
    assert result.code == 1
    assert "error: trainer.logger (Wandb) must be able to log, but: No API key configured." in result.err
    assert not list(Path("runs").iterdir())


def wandb_ids(run_dir: Path = RUN) -> list[str]:
    return [record.run.run_id for record in wandb_records(run_dir) if record.HasField("run")]


def test_a_wandb_run_with_dashes_in_its_id_is_resumed(run, monkeypatch):
    monkeypatch.setenv("WANDB_RUN_ID", "my-own-run")
    assert run(*TINY, "--trainer.logger", "Wandb").code == 0
    wandb.finish()
    monkeypatch.delenv("WANDB_RUN_ID")
    assert run("fit", "--ckpt_path", "last", "--trainer.max_steps", "6").code == 0
    wandb.finish()
    assert wandb_ids() == ["my-own-run", "my-own-run"]


def test_wandb_works_without_the_setting_that_lightning_will_drop(monkeypatch):
    """Not by the command line, whose parser would remember the arguments of this __init__ for later tests."""
    original = WandbLogger.__init__

    def later(logger, *args, **kwargs):
        original(logger, *args, **kwargs)
        logger._wandb_init.pop("anonymous", None)

    monkeypatch.setattr(WandbLogger, "__init__", later)
    logger = Wandb()
    logger.follow(Path.cwd(), step=0)
    assert logger.experiment.offline
