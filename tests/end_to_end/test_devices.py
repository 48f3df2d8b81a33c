"""Several devices: the same global batches as one, stopped and resumed together, sharded by FSDP2.

Most runs are processes that are forked in the environment of torchrun. `launched` starts Python and the real launchers,
where the start itself matters: which process is first, who gets a signal, and whose exit code is reported.
"""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest
import torch
import yaml
from support.command_line import FAST, TINY, VERSE, Result, assert_same_run, refused, rows
from support.nanogpt_folder import prepare
from support.platforms import several_devices
from support.processes import forked, two_devices
from support.several_devices import DDP, FSDP2

from chargpt_lightning.checkpoints.optimizer_state import renumbered

pytestmark = [several_devices, pytest.mark.usefixtures("for_two_devices")]

MODULE = [sys.executable, "-m", "chargpt_lightning"]
TORCHRUN = ["torchrun", "--standalone", "--nproc-per-node", "2", "--log-dir", "logs", "-m", "chargpt_lightning"]
HANGUP = 1  # signal.SIGHUP, which Windows does not have
ONE = ["--trainer.devices", "1", "--trainer.strategy", "auto", "--data.batch_size", "4"]
FIFTY = [*TINY, "--trainer.max_steps", "50", "--trainer.val_check_interval", "10"]
N_GRAMS = [*FAST, "--model.n_gram", "3"]  # whose table has an odd number of rows


def launched(*args: str, start: list[str] = MODULE) -> Result:
    """Runs a command to its end; if it hangs, the processes that it started end with it."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([*start, *args], **pipes, text=True, start_new_session=True) as process:
        try:
            out, err = process.communicate(timeout=300)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return Result(process.returncode, out, err)


def stop(step: int, signum: int, rank: int) -> list[str]:
    arguments = {"step": step, "signum": int(signum), "rank": rank}
    return ["--trainer.callbacks", "support.callbacks.StopAt"] + [
        arg for name, value in arguments.items() for arg in (f"--trainer.callbacks.{name}", str(value))
    ]


def losses(run_dir: str) -> list[float]:
    return [
        float(row[name])
        for row in rows(Path(run_dir))
        for name in ("train/loss", "val/loss", "train_eval/loss")
        if row[name]
    ]


@pytest.mark.parametrize("network", [[], N_GRAMS], ids=["gpt2", "fast"])
def test_two_devices_train_as_one_with_twice_the_batch_and_print_each_line_once(run, network):
    one = run(*FIFTY, *network, "--data.batch_size", "4")
    two = two_devices(*FIFTY, *network, *DDP)
    assert two.code == 0, two.err
    assert losses("runs/version_1") == pytest.approx(losses("runs/version_0"), abs=1e-5)
    assert len(losses("runs/version_0")) == 50 + 2 * 6
    assert len(two.err.splitlines()) == len(one.err.splitlines())


@pytest.mark.slow
@pytest.mark.parametrize("start", [MODULE, TORCHRUN], ids=["python -m", "torchrun"])
def test_two_devices_share_the_batches_of_nanogpts_update(start):
    nanogpts = ["--gradient_accumulation_steps=4", "--eval_interval=2"]
    shared = launched(*TINY[:-6], "--trainer.precision", "32-true", *DDP, *nanogpts, start=start)
    assert shared.code == 0, shared.err
    trainer = yaml.safe_load(Path("runs/version_0/config.yaml").read_text(encoding="utf-8"))["trainer"]
    assert (trainer["accumulate_grad_batches"], trainer["val_check_interval"]) == (2, 4)
    assert [row["step"] for row in rows(Path("runs/version_0")) if row["val/loss"]] == ["0", "2", "4", "5"]


@pytest.mark.slow
@pytest.mark.parametrize(("signum", "code"), [(HANGUP, 129), (signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_any_device_stops_all_and_the_resumed_run_is_the_same(signum, code, rank):
    unsteady = [*TINY, *DDP, "--model.dropout", "0.2", "--data.num_workers", "1"]
    assert two_devices(*unsteady).code == 0
    stopped = two_devices(*unsteady, *stop(2, signum, rank))
    assert (stopped.code, stopped.err.count("stopped at step 3\n")) == (code, 1), stopped.err
    resumed = two_devices("fit", "--ckpt_path", "last", *stop(2, signum, rank))
    assert resumed.code == 0, resumed.err
    assert_same_run(Path("runs/version_0"), Path("runs/version_1"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("start", "signum", "code", "rank"),
    [
        (MODULE, signal.SIGINT, 130, 0),
        (MODULE, signal.SIGTERM, 143, 1),
        (TORCHRUN, signal.SIGINT, 1, 1),
        (TORCHRUN, signal.SIGTERM, 1, 0),
    ],
    ids=[
        "python -m, Ctrl-C",
        "python -m, SIGTERM to the second",
        "torchrun, Ctrl-C to the second",
        "torchrun, SIGTERM",
    ],
)
def test_the_launchers_report_a_stop_by_their_exit_codes(start, signum, code, rank):
    stopped = launched(*TINY, *DDP, *stop(2, signum, rank), start=start)
    assert (stopped.code, stopped.err.count("stopped at step 3\n")) == (code, 1), stopped.err
    assert torch.load("runs/version_0/checkpoints/last.ckpt", weights_only=True)["global_step"] == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("start", "two"),
    [(two_devices, DDP), (two_devices, FSDP2), (launched, DDP)],
    ids=["DDP", "FSDP2", "DDP, python -m"],
)
def test_two_devices_branch_together_and_agree_on_the_best(start, two):
    """The branch equals the uninterrupted run; resumed without a best in its checkpoint, it keeps its best.ckpt."""
    old, new = Path("runs/version_0"), Path("runs/version_1")
    assert two_devices(*TINY, *two, "--trainer.max_steps", "2").code == 0
    shutil.copy(old / "checkpoints/last.ckpt", old / "checkpoints/older.ckpt")
    assert two_devices("fit", "--ckpt_path", "last", "--trainer.max_steps", "6").code == 0
    before = {path: path.read_bytes() for path in old.rglob("*") if path.is_file()}
    older = str(old / "checkpoints/older.ckpt")
    branched = start("fit", "--ckpt_path", older, "--trainer.max_steps", "6")
    assert branched.code == 0, branched.err
    assert branched.err.count("branching off runs/version_0 at step 2, in a new directory; ") == 1
    assert {path: path.read_bytes() for path in old.rglob("*") if path.is_file()} == before
    assert_same_run(old, new)
    told = torch.load(new / "checkpoints/last.ckpt", weights_only=True)
    torch.save(told | {"callbacks": {}}, new / "checkpoints/told.ckpt")
    best = (new / "checkpoints/best.ckpt").read_bytes()
    ruin = ["--model.learning_rate", "10", "--model.min_lr", "10", "--trainer.max_steps", "8"]
    ruined = two_devices("fit", "--ckpt_path", str(new / "checkpoints/told.ckpt"), *ruin)
    assert ruined.code == 0, ruined.err
    assert (new / "checkpoints/best.ckpt").read_bytes() == best
    assert re.search(r"^best val loss .* at step 6: runs/version_1/checkpoints/best.ckpt$", ruined.err, re.MULTILINE)


@pytest.mark.slow
@pytest.mark.parametrize("network", [[], N_GRAMS], ids=["gpt2", "fast"])
@pytest.mark.parametrize("two", [DDP, FSDP2], ids=["DDP", "FSDP2"])
def test_one_device_resumes_a_run_of_two(run, two, network):
    assert run(*FIFTY, *network, "--data.batch_size", "4").code == 0
    assert two_devices(*FIFTY, *network, *two, *stop(22, signal.SIGINT, 0)).code == 130
    assert run("fit", "--ckpt_path", "last", *ONE, *stop(22, signal.SIGINT, 0)).code == 0
    assert losses("runs/version_1") == pytest.approx(losses("runs/version_0"), abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("network", [[], N_GRAMS], ids=["gpt2", "fast"])
def test_a_sharded_run_stops_resumes_and_is_sampled_from_by_one_process(run, network):
    assert two_devices(*FIFTY, *network, *FSDP2).code == 0
    assert run(*FIFTY, *network, "--data.batch_size", "4").code == 0
    assert losses("runs/version_0") == pytest.approx(losses("runs/version_1"), abs=1e-5)
    sharded, single = (Path(f"runs/version_{n}/checkpoints/best.ckpt") for n in (0, 1))
    assert sharded.is_file()
    samples = [run("predict", "--ckpt_path", str(path), "--temperature=0").out for path in (sharded, single)]
    assert samples[0] == samples[1] != ""
    assert two_devices(*FIFTY, *network, *FSDP2, *stop(22, signal.SIGTERM, 1)).code == 143
    resumed = two_devices("fit", "--ckpt_path", "last", *stop(22, signal.SIGTERM, 1))
    assert resumed.code == 0, resumed.err
    assert losses("runs/version_2") == losses("runs/version_0")


@pytest.mark.slow
@pytest.mark.parametrize("two", [DDP, FSDP2], ids=["DDP", "FSDP2"])
def test_every_window_is_evaluated_once(run, two):
    assert run(*TINY).code == 0
    alone = yaml.safe_load(run("validate", "--data.batch_size", "2").out)
    together = two_devices("validate", *two, "--data.batch_size", "2", "--trainer.accelerator", "cpu")
    assert together.code == 0, together.err
    assert alone["characters"] == 17 * 8
    assert yaml.safe_load(together.out) == pytest.approx(alone, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("two", [DDP, FSDP2], ids=["DDP", "FSDP2"])
def test_a_split_may_have_fewer_windows_than_there_are_devices(run, two):
    """One window of the train split to evaluate on: the second device has none, and still has to take part."""
    prepare("folder", VERSE, border=12)
    short = [*TINY, "--data.text", "folder"]
    assert run(*short, "--data.batch_size", "4").code == 0
    together = two_devices(*short, *two)
    assert together.code == 0, together.err
    assert losses("runs/version_1") == pytest.approx(losses("runs/version_0"), abs=1e-5)
    counted = [[row["val/characters"] for row in rows(Path(f"runs/version_{n}"))] for n in (0, 1)]
    assert counted[0] == counted[1]


@pytest.mark.slow
def test_the_loss_of_an_update_is_the_mean_over_its_micro_batches_on_all_devices(run):
    accumulated = [*TINY, "--trainer.accumulate_grad_batches", "2"]
    assert run(*accumulated, "--data.batch_size", "4").code == 0
    together = two_devices(*accumulated, *DDP)
    assert together.code == 0, together.err
    assert losses("runs/version_1") == pytest.approx(losses("runs/version_0"), abs=1e-5)


@pytest.mark.slow
def test_a_callback_that_stops_one_device_stops_all():
    asked = ["--trainer.callbacks", "support.callbacks.ShouldStopAt"]
    at = ["--trainer.callbacks.step", "3", "--trainer.callbacks.rank", "1"]
    stopped = two_devices(*TINY, *DDP, *asked, *at)
    assert stopped.code == 0, stopped.err
    assert "stopped at step 3\n" in stopped.err


@pytest.mark.slow
@pytest.mark.parametrize(("start", "two"), [(launched, DDP), (two_devices, FSDP2)], ids=["DDP, python -m", "FSDP2"])
def test_broken_weights_end_all_devices(start, two):
    broken = start(*TINY, *two, "--trainer.callbacks", "support.callbacks.BreakWeights")
    assert broken.code == 1
    assert "error: weights at step 2 must be finite to be saved" in broken.err


@pytest.mark.slow
def test_if_the_first_device_cannot_save_all_devices_end():
    failed = launched("-c", f"ulimit -f 8; {shlex.join([*MODULE, *TINY, *DDP])}", start=["bash"])
    assert failed.code == 1
    assert failed.err.splitlines()[-1].startswith("error: [Errno 27] File too large: ")


STRATEGIES = {"one": (forked, ONE), "ddp": (two_devices, [*DDP, "--data.batch_size", "2"])}
STRATEGIES["fsdp2"] = (two_devices, [*FSDP2, "--data.batch_size", "2"])


@pytest.mark.slow
@pytest.mark.parametrize("network", [[], N_GRAMS], ids=["adamw", "muon"])
def test_a_run_that_changes_hands_at_every_evaluation_is_the_run_of_one_device(run, network):
    settings = [*TINY, *network, "--trainer.max_steps", "12"]
    assert run(*settings, *ONE).code == 0
    for updates, strategy in zip(range(2, 13, 2), ("one", "fsdp2", "ddp", "fsdp2", "one", "ddp"), strict=True):
        start, flags = STRATEGIES[strategy]
        command = settings if updates == 2 else ["fit", "--ckpt_path", "last"]
        changed = start(*command, *flags, "--trainer.max_steps", str(updates))
        assert changed.code == 0, changed.err
    assert losses("runs/version_1") == pytest.approx(losses("runs/version_0"), abs=1e-5)
    state, expected = (torch.load(f"runs/version_{n}/checkpoints/last.ckpt", weights_only=True) for n in (1, 0))
    torch.testing.assert_close(state["state_dict"], expected["state_dict"], rtol=0, atol=1e-5)


@pytest.mark.slow
def test_a_checkpoint_of_an_older_version_resumes_sharded(run):
    """It numbers the weights in the order of the parameter groups."""
    settings = [*TINY, *FAST, "--trainer.max_steps", "4"]
    assert run(*settings, *ONE).code == 0
    last = Path("runs/version_0/checkpoints/last.ckpt")
    checkpoint = torch.load(last, weights_only=True)
    (state,) = checkpoint["optimizer_states"]
    number = count()
    by_order = [[next(number) for _ in group["params"]] for group in state["param_groups"]]
    assert by_order != [group["params"] for group in state["param_groups"]]
    checkpoint["optimizer_states"] = [renumbered(state, by_order)]
    torch.save(checkpoint, last)
    assert two_devices("fit", "--ckpt_path", "last", *STRATEGIES["fsdp2"][1], "--trainer.max_steps", "6").code == 0
    assert run(*settings, *ONE, "--trainer.max_steps", "6").code == 0
    assert losses("runs/version_0")[-6:] == pytest.approx(losses("runs/version_1")[-6:], abs=1e-5)


def test_a_sharded_network_on_one_device_is_refused_and_its_settings_are_kept(run):
    assert run(*TINY).code == 0
    before = Path("runs/version_0/config.yaml").read_bytes()
    resumed = ["fit", "--ckpt_path", "last", *FSDP2, "--trainer.max_steps", "6", "--trainer.devices", "1"]
    assert refused(run, *resumed) == (
        "trainer.strategy.data_parallel_size (2) must be the number of devices (1); "
        "for a network that is not sharded: --trainer.strategy auto"
    )
    assert Path("runs/version_0/config.yaml").read_bytes() == before


@pytest.mark.slow
@pytest.mark.parametrize("devices", [DDP, FSDP2], ids=["ddp", "fsdp2"])
@pytest.mark.parametrize("format", ["nanogpt", "hf"])
def test_two_devices_start_from_another_programs_checkpoint_as_one_does(run, format, devices):
    assert run(*TINY).code == 0
    assert run("export", "--format", format, "--out", "exported").code == 0
    checkpoint = "exported/ckpt.pt" if format == "nanogpt" else "exported"
    fit = [*FIFTY, "--trainer.max_steps", "9", "--ckpt_path", checkpoint]
    one = run(*fit, "--data.batch_size", "4")
    two = two_devices(*fit, *devices, "--gradient_accumulation_steps=2")
    assert (one.code, two.code) == (0, 0), one.err + two.err
    assert losses("runs/version_2") == pytest.approx(losses("runs/version_1"), abs=1e-5)
