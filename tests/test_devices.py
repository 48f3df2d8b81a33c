"""Several devices: the same global batches as one, stopped and resumed together, sharded by FSDP2."""

import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import FAST, ROOT, TINY, VERSE, rows, several_devices
from test_resume import assert_same_run

pytestmark = several_devices

MODULE = [sys.executable, "-m", "chargpt_lightning"]
TORCHRUN = ["torchrun", "--standalone", "--nproc-per-node", "2", "-m", "chargpt_lightning"]
DDP = ["--trainer.devices", "2", "--trainer.strategy", "ddp"]
FSDP2 = ["--config", "fsdp2.yaml"]
ONE = ["--trainer.devices", "1", "--trainer.strategy", "auto", "--data.batch_size", "4"]
FIFTY = [*TINY, "--trainer.max_steps", "50", "--trainer.val_check_interval", "10"]


@pytest.fixture(autouse=True)
def settings(monkeypatch):
    """Seventeen windows to evaluate on: with two devices and batches of two, the last batch has one for one device."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    Path("verse.txt").write_text(VERSE * 21, encoding="utf-8")
    text = (ROOT / "docs" / "devices.md").read_text(encoding="utf-8")
    (sharded,) = re.findall(r"```yaml\n(.*?ModelParallelStrategy.*?)```", text, re.DOTALL)
    Path("fsdp2.yaml").write_text(sharded, encoding="utf-8")


def command(*args: str, start: list[str] = MODULE) -> subprocess.CompletedProcess:
    return subprocess.run([*start, *args], capture_output=True, text=True, timeout=300, check=False)


def stop(step: int, signum: int, rank: int) -> list[str]:
    arguments = {"step": step, "signum": int(signum), "rank": rank}
    return ["--trainer.callbacks", "stop_at.StopAt"] + [
        arg for name, value in arguments.items() for arg in (f"--trainer.callbacks.{name}", str(value))
    ]


def losses(run_dir: str) -> list[float]:
    return [
        float(row[name])
        for row in rows(Path(run_dir))
        for name in ("train/loss", "val/loss", "train_eval/loss")
        if row[name]
    ]


@pytest.mark.parametrize("network", [[], FAST], ids=["gpt2", "fast"])
def test_two_devices_train_on_the_batches_of_one_with_twice_the_batch_and_say_it_once(run, network):
    one = run(*FIFTY, *network, "--data.batch_size", "4")
    two = command(*FIFTY, *network, *DDP)
    assert two.returncode == 0, two.stderr
    assert losses("runs/version_1") == pytest.approx(losses("runs/version_0"), abs=1e-5)
    assert len(losses("runs/version_0")) == 50 + 2 * 6
    assert len(two.stderr.splitlines()) == len(one.err.splitlines())


@pytest.mark.slow
@pytest.mark.parametrize("start", [MODULE, TORCHRUN], ids=["python -m", "torchrun"])
def test_two_devices_share_the_batches_of_nanogpts_update(start):
    nanogpts = ["--gradient_accumulation_steps=4", "--eval_interval=2"]
    shared = command(*TINY[:-6], "--trainer.precision", "32-true", *DDP, *nanogpts, start=start)
    assert shared.returncode == 0, shared.stderr
    trainer = yaml.safe_load(Path("runs/version_0/config.yaml").read_text(encoding="utf-8"))["trainer"]
    assert (trainer["accumulate_grad_batches"], trainer["val_check_interval"]) == (2, 4)
    assert [row["step"] for row in rows(Path("runs/version_0")) if row["val/loss"]] == ["0", "2", "4", "5"]


@pytest.mark.slow
@pytest.mark.parametrize("start", [MODULE, TORCHRUN], ids=["python -m", "torchrun"])
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_any_device_stops_all_and_the_resumed_run_is_the_same(start, signum, code, rank):
    dropout = ["--model.dropout", "0.2", "--data.num_workers", "1"]
    assert command(*TINY, *DDP, *dropout, start=start).returncode == 0
    stopped = command(*TINY, *DDP, *dropout, *stop(2, signum, rank), start=start)
    assert stopped.returncode == (code if start is MODULE else 1), stopped.stderr
    assert "stopped at step 3\n" in stopped.stderr
    resumed = command("fit", "--ckpt_path", "last", start=start)
    assert resumed.returncode == 0, resumed.stderr
    assert_same_run(Path("runs/version_0"), Path("runs/version_1"))


@pytest.mark.slow
@pytest.mark.parametrize("network", [[], FAST], ids=["gpt2", "fast"])
@pytest.mark.parametrize("two", [DDP, FSDP2], ids=["DDP", "FSDP2"])
def test_one_device_goes_on_where_two_stopped(run, two, network):
    assert run(*FIFTY, *network, "--data.batch_size", "4").code == 0
    assert command(*FIFTY, *network, *two, *stop(22, signal.SIGINT, 0)).returncode == 130
    assert run("fit", "--ckpt_path", "last", *ONE).code == 0
    assert losses("runs/version_1") == pytest.approx(losses("runs/version_0"), abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("network", [[], FAST], ids=["gpt2", "fast"])
def test_a_sharded_run_stops_resumes_and_is_sampled_from_by_one_process(run, network):
    assert command(*FIFTY, *network, *FSDP2).returncode == 0
    assert run(*FIFTY, *network, "--data.batch_size", "4").code == 0
    assert losses("runs/version_0") == pytest.approx(losses("runs/version_1"), abs=1e-5)
    sharded, single = (Path(f"runs/version_{n}/checkpoints/best.ckpt") for n in (0, 1))
    assert sharded.is_file()
    samples = [run("predict", "--ckpt_path", str(path), "--temperature=0").out for path in (sharded, single)]
    assert samples[0] == samples[1] != ""
    assert command(*FIFTY, *network, *FSDP2, *stop(22, signal.SIGTERM, 1)).returncode == 143
    resumed = command("fit", "--ckpt_path", "last")
    assert resumed.returncode == 0, resumed.stderr
    assert losses("runs/version_2") == losses("runs/version_0")


@pytest.mark.slow
@pytest.mark.parametrize("two", [DDP, FSDP2], ids=["DDP", "FSDP2"])
def test_every_window_is_evaluated_once(run, tiny_run, two):
    alone = yaml.safe_load(run("validate", "--data.batch_size", "2").out)
    together = command("validate", *two, "--data.batch_size", "2", "--trainer.accelerator", "cpu")
    assert together.returncode == 0, together.stderr
    assert alone["characters"] == 17 * 8
    assert yaml.safe_load(together.stdout) == pytest.approx(alone, abs=1e-5)


@pytest.mark.slow
def test_if_the_first_device_cannot_save_all_end():
    failed = command("-c", f"ulimit -f 8; {shlex.join([*MODULE, *TINY, *DDP])}", start=["bash"])
    assert failed.returncode == 1
    assert failed.stderr.splitlines()[-1].startswith("error: [Errno 27] File too large: ")


@pytest.mark.slow
@pytest.mark.parametrize("devices", [DDP, FSDP2], ids=["ddp", "fsdp2"])
@pytest.mark.parametrize("format", ["nanogpt", "hf"])
def test_two_devices_begin_with_the_checkpoint_of_another_program_as_one_does(run, format, devices):
    assert run(*TINY).code == 0
    assert run("export", "--format", format, "--out", "theirs").code == 0
    theirs = "theirs/ckpt.pt" if format == "nanogpt" else "theirs"
    fit = [*FIFTY, "--trainer.max_steps", "9", "--ckpt_path", theirs]
    one = run(*fit, "--data.batch_size", "4")
    two = command(*fit, *devices)
    assert (one.code, two.returncode) == (0, 0), one.err + two.stderr
    assert losses("runs/version_2") == pytest.approx(losses("runs/version_1"), abs=1e-5)
