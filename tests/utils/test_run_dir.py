"""Directories of runs: which they are, each with one process, and which checkpoint is the newest."""

import os
import shlex
import threading
from pathlib import Path

import pytest
from filelock import FileLock
from support.command_line import TINY, files, refused
from support.platforms import posix

from chargpt_lightning import CharGPT
from chargpt_lightning.utils.errors import ConfigError
from chargpt_lightning.utils.run_dir import (
    checkpoint_at,
    checkpoints_beside,
    claim_directory,
    is_run,
    lock_directory,
    name_of,
    newest_checkpoint,
    relative_to_cwd,
    release_directory,
    runs_below,
)

WANDB_CONFIG = """\
_wandb:
    value:
        cli_version: 0.31.0
        python_version: 3.11.9
        t:
            "1": [1, 9, 41, 106]
            "4": 3.11.9
learning_rate:
    value: 0.001
"""
FILES = "runs/version_0/wandb/run-20261125_093000-ab12cd34/files"
OTHERS = [
    f"{FILES}/config.yaml",
    "runs/version_0/.hydra/config.yaml",
    "runs/.hydra/config.yaml",
    "runs/outputs/2026-11-25/09-30-00/.hydra/config.yaml",
    "runs/mlruns/0/0a1b2c/artifacts/config.yaml",
    "runs/config.yaml",
]


NO_RUN = (
    "trainer.default_root_dir (runs) must contain a run with a checkpoint; "
    "`fit` creates one; to use one elsewhere: --ckpt_path RUN"
)


def made_run(run: Path) -> Path:
    """Makes the directory of a run with the name of a checkpoint."""
    (run / "checkpoints").mkdir(parents=True)
    for name in ("config.yaml", "checkpoints/best.ckpt"):
        (run / name).touch()
    return run


def left_by_another(path: str) -> None:
    """Writes a newer config.yaml than the run's, with the files that W&B and Hydra put beside it."""
    config = Path(path)
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(WANDB_CONFIG, encoding="utf-8")
    os.utime(config, (2**32, 2**32))
    for name in ("output.log", "requirements.txt", "wandb-metadata.json", "wandb-summary.json", "hydra.yaml"):
        (config.parent / name).touch()


def test_after_an_online_run_of_wandb_every_command_finds_the_run(run, tiny_run):
    left_by_another(f"{FILES}/config.yaml")
    for command in (
        ["predict", "--num_samples=1", "--max_new_tokens=3"],
        ["validate"],
        ["export", "--format", "nanogpt", "--out", "exported"],
        ["fit", "--trainer.max_steps", "6", "--ckpt_path", "last"],
    ):
        result = run(*command)
        assert (result.code, "checkpoint: runs/version_0/checkpoints/" in result.err) == (0, True), result.err
    assert [path.name for path in Path("runs").glob("version_*")] == ["version_0"]


@pytest.mark.parametrize("path", OTHERS)
def test_a_config_yaml_of_another_program_is_no_run(path):
    run = made_run(Path("runs/deep/er/version_0"))
    left_by_another(path)
    assert newest_checkpoint(Path("runs"), "last") == run / "checkpoints/best.ckpt"


def test_files_of_another_program_alone_are_no_run(run):
    left_by_another("runs/wandb/run-20261125_093000-ab12cd34/files/config.yaml")
    assert refused(run, "predict") == NO_RUN


def test_nanogpts_out_dir_may_have_wandbs_files(run, tiny_run):
    assert run("export", "--format", "nanogpt", "--out", "out").code == 0
    left_by_another("out/wandb/run-20261125_093000-ab12cd34/files/config.yaml")
    assert "checkpoint: out/ckpt.pt\n" in run("predict", "--out_dir=out", "--num_samples=1").err


@pytest.mark.parametrize("beside", [".lock", "metrics.csv", "checkpoints"])
def test_a_run_that_has_just_started_is_one(beside):
    earlier, started = Path("runs/version_0"), Path("runs/deep/er/version_0")
    (earlier / "checkpoints").mkdir(parents=True)
    started.mkdir(parents=True)
    for path in (earlier / "config.yaml", earlier / "checkpoints/best.ckpt", started / "config.yaml"):
        path.touch()
    os.utime(earlier / "config.yaml", (1, 1))
    assert not is_run(started)
    (started / beside).touch()
    with pytest.raises(ConfigError) as error:
        newest_checkpoint(Path("runs"), "best")
    assert str(error.value) == (
        f"ckpt_path (best) must be in the newest run, but {started} has no checkpoint yet; "
        f"to use an earlier one: --ckpt_path {earlier / 'checkpoints' / 'best.ckpt'}"
    )


def test_a_checkpoint_below_wandbs_files_belongs_to_no_run(run, tiny_run):
    left_by_another(f"{FILES}/config.yaml")
    copied = Path(FILES, "last.ckpt")
    copied.write_bytes((tiny_run / "checkpoints/last.ckpt").read_bytes())
    left_by_another(f"{FILES}/version_0/config.yaml")  # where a requeued run would be
    result = run("fit", "--ckpt_path", str(copied), *TINY[1:], "--trainer.max_steps", "6")
    assert result.code == 0, result.err
    assert "resuming in a new directory at step 5" in result.err


@pytest.mark.parametrize("gone", ["best", "last"])
def test_a_run_with_one_checkpoint_resumes_from_it_by_either_name(run, tiny_run, gone):
    history = (tiny_run / "metrics.csv").read_text(encoding="utf-8")
    (tiny_run / f"checkpoints/{gone}.ckpt").unlink()
    assert run("fit", "--ckpt_path", gone, "--trainer.max_steps", "6").code == 0
    assert (tiny_run / "metrics.csv").read_text(encoding="utf-8").startswith(history)


def test_a_newest_run_without_a_checkpoint_is_refused(run, tiny_run):
    run(*TINY, "--trainer.enable_checkpointing", "false")
    for args in (["fit", "--ckpt_path", "last"], ["predict"]):
        message = refused(run, *args)
        assert "must be in the newest run, but runs/version_1 has no checkpoint yet; to use an earlier one: " in message


def test_validate_uses_the_best_checkpoint_of_the_newest_run(run, tiny_run):
    run(*TINY, "--model.n_layer", "2")
    os.utime("runs/version_0/config.yaml", (1, 1))
    result = run("validate", "--trainer.accelerator", "cpu")
    assert "checkpoint: runs/version_1/checkpoints/best.ckpt" in result.err
    os.utime("runs/version_1/config.yaml", (0, 0))
    result = run("validate", "--trainer.accelerator", "cpu")
    assert "checkpoint: runs/version_0/checkpoints/best.ckpt" in result.err


@pytest.mark.parametrize(
    "root",
    ["verse.txt", pytest.param("/proc/runs", marks=posix)],
)
def test_a_root_that_cannot_be_written_is_refused(run, root):
    message = f"trainer.default_root_dir ({root}) must be a writable directory, but: "
    assert refused(run, *TINY, "--trainer.default_root_dir", root).startswith(message)


@pytest.mark.parametrize("subcommand", ["validate", "predict"])
def test_without_a_run_there_is_no_checkpoint(run, subcommand):
    assert refused(run, subcommand) == NO_RUN


@pytest.mark.parametrize("place", ["version_0", "lightning_logs/version_0", "my runs/a/version_0"])
def test_a_run_in_another_directory_is_named(place):
    made_run(Path(place))
    with pytest.raises(ConfigError) as error:
        newest_checkpoint(Path("elsewhere"), "best")
    assert str(error.value) == (
        "trainer.default_root_dir (elsewhere) must contain a run with a checkpoint; "
        f"to use the newest one seen elsewhere: --ckpt_path {shlex.quote(place)}"
    )


def test_the_command_that_names_a_run_elsewhere_works(run, tiny_run):
    elsewhere = ["--trainer.default_root_dir", "elsewhere"]
    advice = refused(run, "predict", *elsewhere).partition("seen elsewhere: ")[2].split()
    assert advice == ["--ckpt_path", "runs/version_0"]
    assert run("predict", *elsewhere, *advice, "--num_samples=1", "--max_new_tokens=3").code == 0


def test_a_runs_directory_stands_for_its_last_checkpoint_in_fit_and_for_its_best_otherwise(run, tiny_run):
    checkpoint = "checkpoint: runs/version_0/checkpoints/{}.ckpt\n"
    asked = ("--ckpt_path", "runs/version_0/")
    for command in (["validate"], ["predict", "--num_samples=1"], ["export", "--format=nanogpt", "--out=out"]):
        assert checkpoint.format("best") in run(*command, *asked).err
    result = run("fit", *asked, "--trainer.max_steps", "6")
    assert checkpoint.format("last") in result.err
    assert "resuming runs/version_0 at step 5" in result.err
    assert CharGPT.load_from_checkpoint("runs/version_0").sample(max_new_tokens=3)


def test_only_a_directory_that_is_a_run_stands_for_its_checkpoint():
    run = made_run(Path("run"))
    assert checkpoint_at(run, "last") == run / "checkpoints/best.ckpt"
    (run / "config.json").touch()
    assert checkpoint_at(run, "last") == run, "a Hugging Face folder"
    assert checkpoint_at(run / "checkpoints/best.ckpt", "last") == run / "checkpoints/best.ckpt"


def test_a_run_without_a_checkpoint_is_refused_by_name():
    run = made_run(Path("run"))
    (run / "checkpoints/best.ckpt").unlink()
    with pytest.raises(ConfigError, match=r"ckpt_path \(run\) must be a run with a checkpoint, but it has none yet"):
        checkpoint_at(run, "best")


def test_runs_that_start_at_once_get_a_directory_each():
    claimed: list[Path] = []
    threads = [threading.Thread(target=lambda: claimed.append(claim_directory(Path("runs")))) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(claimed)) == 32


def test_a_run_that_another_process_trains_is_not_resumed(run, tiny_run):
    lock = lock_directory(tiny_run)
    more = ["fit", "--ckpt_path", "last", "--trainer.max_steps", "6"]
    before = (tiny_run / "metrics.csv").read_text(encoding="utf-8")
    result = run(*more)
    message = "error: ckpt_path (runs/version_0) must not belong to a run that another process is training\n"
    assert (result.code, result.err.endswith(message)) == (1, True)
    assert (tiny_run / "metrics.csv").read_text(encoding="utf-8") == before
    lock.release()
    assert run(*more).code == 0


@pytest.mark.parametrize("error", [OSError(37, "No locks available"), NotImplementedError("no flock")])
def test_a_run_that_cannot_be_locked_is_refused(run, tiny_run, monkeypatch, error):
    class NoLock(FileLock):
        def acquire(self, **how):
            raise error

    message = "error: the lock (runs/version_{}/.lock) must be a writable file, on a file system with locks, but: "
    before = files()
    monkeypatch.setattr("chargpt_lightning.utils.run_dir.FileLock", NoLock)
    for number, args in enumerate((["fit", "--ckpt_path", "last", "--trainer.max_steps", "6"], TINY)):
        result = run(*args)
        assert result.code == 1
        assert result.err.splitlines()[-1].startswith(message.format(number))
        assert files() == before


def test_a_path_on_another_drive_stays_absolute(monkeypatch):
    assert relative_to_cwd(Path("a", "b").absolute()) == Path("a", "b")

    def relpath(path):
        raise ValueError(f"path is on mount 'D:', start on mount 'C:': {path}")

    monkeypatch.setattr(os.path, "relpath", relpath)
    absolute = Path("a").absolute()
    assert relative_to_cwd(absolute) == absolute


@pytest.mark.parametrize("left", [[], [".lock"], [".lock", "metrics.csv"]])
def test_a_run_that_wrote_nothing_leaves_no_directory(left):
    run = Path("runs/version_0")
    run.mkdir(parents=True)
    for name in left:
        (run / name).touch()
    release_directory(run)
    assert run.exists() == ("metrics.csv" in left)


def test_the_best_checkpoint_of_a_run_is_named_by_its_directory():
    run = made_run(Path("runs/version_0"))
    best, last = run / "checkpoints/best.ckpt", run / "checkpoints/last.ckpt"
    assert name_of(best) == str(run)
    last.touch()
    assert (name_of(best), name_of(last)) == (str(run), str(last))
    best.unlink()
    assert name_of(last) == str(run)
    assert name_of(Path("nanogpt/ckpt.pt")) == str(Path("nanogpt/ckpt.pt"))


def test_runs_are_found_at_any_depth_the_newest_first():
    runs = [made_run(Path("runs/a/b/version_0")), made_run(Path("runs/version_0"))]
    for run, time_ns in zip(runs, (2_000_000_000, 1_000_000_000), strict=True):
        os.utime(run / "config.yaml", ns=(time_ns, time_ns))
    assert runs_below(Path("runs")) == runs
    assert runs_below(Path("runs/a")) == runs[:1]
    assert runs_below(Path("nowhere")) == []


@pytest.mark.parametrize(
    ("most", "steps"), [(9, [0, 1, 2, 3, 4]), (4, [0, 2, 3, 4]), (3, [0, 2, 4]), (2, [0, 4]), (1, [4])]
)
def test_the_checkpoints_of_a_run_are_spread_evenly_over_their_times(most, steps):
    folder = made_run(Path("runs/version_0")) / "checkpoints"
    names = ["step=1.ckpt", "step=10.ckpt", "step=2.ckpt", "best.ckpt", "last.ckpt"]
    for step, name in enumerate(names):
        (folder / name).touch()
        os.utime(folder / name, ns=(step, step))
    expected = [folder / names[step] for step in steps]
    assert checkpoints_beside("runs/version_0", most) == checkpoints_beside(str(folder / "last.ckpt"), most) == expected


def test_a_checkpoint_in_no_run_is_alone():
    Path("ckpt.pt").touch()
    Path("other.ckpt").touch()
    assert checkpoints_beside("ckpt.pt", 6) == [Path("ckpt.pt")]
