"""Kills a run at random moments, resumes it each time, and compares it with a run that was never killed.

    python tests/end_to_end/kills.py --kills 50 --devices 2

The run trains a network of a thousand parameters with Muon, dropout and accumulated gradients, and evaluates and saves
every 10 updates, so that many kills interrupt a save. Prints the number of kills, of unreadable checkpoints and of
differences between the finished runs; exits with 1 if there are unreadable checkpoints or differences.
"""

import argparse
import random
import re
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).parent.parent))  # as pytest does
from support.processes import started_devices

from chargpt_lightning.checkpoints.io import read_checkpoint
from chargpt_lightning.utils.errors import ConfigError
from chargpt_lightning.utils.metrics import TIMING
from chargpt_lightning.utils.metrics_csv import read_columns

VERSE = "When shall we three meet again?\nIn thunder, lightning, or in rain?\n"
COMMAND = ["fit", "--trainer.accelerator", "cpu"]
SETTINGS = [
    *("--data.text", "verse.txt", "--data.batch_size", "2", "--data.eval_iters", "2", "--model.dropout", "0.2"),
    *("--model.n_layer", "1", "--model.n_head", "2", "--model.n_embd", "8", "--model.block_size", "8"),
    *("--model.optimizer", "muon", "--trainer.accumulate_grad_batches", "2"),
    *("--trainer.val_check_interval", "20", "--trainer.log_every_n_steps", "1"),
]
LONGEST_DELAY_S = (
    2.0  # per device, after training has started; an evaluation that draws curves.png takes a third of a second
)


def main() -> None:
    """Runs the comparison in a temporary directory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1337)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        broken, different, steps, elapsed_s = compare(
            Path(directory), options.kills, random.Random(options.seed), options.devices
        )
    print(f"{options.kills} kills over {steps} updates in {elapsed_s:.0f} s, {broken} unreadable checkpoints, ", end="")
    print(f"{len(different)} differences", *different, sep="\n  ")
    sys.exit(bool(broken or different))


def compare(work: Path, kills: int, chance: random.Random, devices: int = 1) -> tuple[int, list[str], int, float]:
    """Returns the number of unreadable checkpoints, the differences, the number of updates, and the elapsed seconds."""
    start_s = time.perf_counter()
    (work / "verse.txt").write_text(VERSE * 20, encoding="utf-8")
    broken = 0
    for _ in range(kills):
        start(work, "killed", 10**6, devices, kill_after_s=chance.uniform(0, LONGEST_DELAY_S * devices))
        broken += sum(map(unreadable, work.glob("killed/*/checkpoints/*.ckpt")))
    steps = 10 + max(read_checkpoint(path).global_step for path in work.glob("killed/*/checkpoints/*.ckpt"))
    for root in ("killed", "uninterrupted"):
        start(work, root, steps, devices)
    return broken, list(differences(work)), steps, time.perf_counter() - start_s


def start(work: Path, root: str, steps: int, devices: int, kill_after_s: float | None = None) -> None:
    """Starts or resumes the run below `root`; kills all its processes after a delay, or waits until they end."""
    settings = ["--ckpt_path", "last"] if list(work.glob(f"{root}/*/checkpoints/*.ckpt")) else SETTINGS
    settings = [*settings, "--trainer.devices", str(devices), "--trainer.default_root_dir", root]
    with chdir(work):
        processes = started_devices(devices, *COMMAND, *settings, "--trainer.max_steps", str(steps))
    expected = 0
    if kill_after_s is not None:
        first = processes[0]
        while first.is_running() and not re.search("^run: ", first.err, re.MULTILINE):
            time.sleep(0.01)
        time.sleep(kill_after_s)
        for process in processes:
            process.kill()
        expected = -signal.SIGKILL
    results = [process.result() for process in processes]
    assert {result.code for result in results} == {expected}, results


def unreadable(checkpoint: Path) -> bool:
    """Returns whether a checkpoint cannot be read."""
    try:
        read_checkpoint(checkpoint)
    except ConfigError:
        return True
    return False


def differences(work: Path) -> Iterator[str]:
    """Yields the names of what differs between the killed and the uninterrupted run."""
    killed, uninterrupted = (
        next(work.glob(f"{root}/*/checkpoints/last.ckpt")).parent for root in ("killed", "uninterrupted")
    )
    columns, expected = (read_columns(checkpoints.parent) for checkpoints in (killed, uninterrupted))
    for name in (columns.keys() | expected.keys()) - {*TIMING}:
        if columns.get(name) != expected.get(name):
            yield f"metrics.csv: {name}"
    for name in ("best.ckpt", "last.ckpt"):
        one, other = (torch.load(directory / name, weights_only=True) for directory in (killed, uninterrupted))
        for part in ("global_step", "state_dict", "optimizer_states", "lr_schedulers"):
            try:
                torch.testing.assert_close(one[part], other[part], rtol=0, atol=0)
            except AssertionError:
                yield f"{name}: {part}"


if __name__ == "__main__":
    main()
