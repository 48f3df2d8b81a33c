"""Reads the figures and samples of a run from the files of TensorBoard and W&B."""

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb.proto.wandb_internal_pb2 import Record

from support.command_line import rows

LOGGED = {
    *("train/loss", "lr", "grad_norm", "val/loss", "val/perplexity", "val/characters", "train_eval/loss"),
    *("tokens_per_second", "mfu"),
}
RUN = Path("runs/version_0")
TENSORBOARD = ["--trainer.logger", "TensorBoard"]
Columns = dict[str, list[tuple[int, float]]]


def in_csv(run_dir: Path = RUN) -> Columns:
    """The figures of metrics.csv in single precision, which is TensorBoard's, by name and step."""
    table = rows(run_dir)
    return {
        name: [(int(row["step"]), torch.tensor(float(row[name])).item()) for row in table if row[name]]
        for name in table[0].keys() - {"step"}
    }


def tensorboard(run_dir: Path = RUN) -> EventAccumulator:
    """TensorBoard's own reader of a run."""
    events = EventAccumulator(str(run_dir))
    events.Reload()
    return events


def in_tensorboard(run_dir: Path = RUN) -> Columns:
    """The figures in TensorBoard's files, by name and step."""
    events = tensorboard(run_dir)
    names = set(events.Tags()["scalars"]) - {"epoch"}  # Lightning's
    return {name: [(event.step, event.value) for event in events.Scalars(name)] for name in names}


def samples_in_tensorboard(run_dir: Path = RUN) -> dict[int, str]:
    """The samples in TensorBoard's files, by step."""
    events = tensorboard(run_dir).Tensors("sample/text_summary")
    texts = {event.step: event.tensor_proto.string_val[0].decode() for event in events}
    return {step: "\n".join(line[4:] for line in text.split("\n")) for step, text in texts.items()}


def wandb_records(run_dir: Path = RUN) -> list[Record]:
    """The records that W&B would send, in order; waits for W&B's process to finish writing them."""
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
    """Reads a file of W&B: a LevelDB log after the first seven bytes. W&B's own reader is not in Python."""
    record, place = b"", 7
    while place + 7 <= len(log):
        if 2**15 - place % 2**15 < 7:  # no room for a header: the block's end is empty
            place += 2**15 - place % 2**15
            continue
        length, kind = struct.unpack_from("<HB", log, place + 4)
        if place + 7 + length > len(log):  # still being written
            return
        record += log[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # full, or the last part
            yield record
            record = b""


def in_wandb(run_dir: Path = RUN) -> Columns:
    """The figures in W&B's files, by name and step."""
    columns: Columns = {}
    for record in wandb_records(run_dir):
        row = {"/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        for name in row.keys() & LOGGED:
            step = row["trainer/global_step"]
            columns.setdefault(name, []).append((step, torch.tensor(row[name]).item()))
    return columns
