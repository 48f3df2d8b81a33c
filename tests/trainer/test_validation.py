"""Lightning's own toolbox, with the YAML of docs/toolbox.md: each tool has its effect, or is refused in one line."""

import re
from pathlib import Path

import pytest
import torch
import yaml
from support import ROOT
from support.command_line import TINY, exact_rows, files, refused, rows

from chargpt_lightning import CharGPT
from chargpt_lightning.trainer.validation import INSTEAD

DOCS = (ROOT / "docs/toolbox.md").read_text(encoding="utf-8")
SECTIONS = dict(section.split("\n", maxsplit=1) for section in DOCS.split("\n## "))
RUN_0, RUN_1 = Path("runs/version_0"), Path("runs/version_1")


def yaml_of(heading: str) -> dict:
    """What the only YAML of a section says of the trainer."""
    (block,) = re.findall(r"```yaml\n(.*?)```", SECTIONS[heading], re.DOTALL)
    return yaml.safe_load(block)["trainer"]


CALLBACKS = {callback["class_path"]: callback["init_args"] for callback in yaml_of("Callbacks")["callbacks"]}


def from_file(**trainer: object) -> list[str]:
    """The flags that take these settings of the trainer out of a file."""
    Path("tool.yaml").write_text(yaml.safe_dump({"trainer": trainer}), encoding="utf-8")
    return ["--config", "tool.yaml"]


def with_callback(name: str, **arguments: object) -> list[str]:
    return from_file(callbacks=[{"class_path": name, "init_args": arguments}])


def from_docs(name: str) -> list[str]:
    """The flags that take a callback of the docs, by itself."""
    return with_callback(name, **CALLBACKS[name])


def checkpoint(run_dir: Path, name: str = "last") -> dict:
    return torch.load(run_dir / f"checkpoints/{name}.ckpt", weights_only=True)


def column(run_dir: Path, name: str) -> list[float]:
    return [float(row[name]) for row in rows(run_dir) if row[name]]


def assert_same_run(one: Path, other: Path) -> None:
    assert exact_rows(one) == exact_rows(other)
    theirs, ours = checkpoint(other), checkpoint(one)
    torch.testing.assert_close(theirs["state_dict"], ours["state_dict"], rtol=0, atol=0)
    (theirs,), (ours,) = theirs["optimizer_states"], ours["optimizer_states"]
    torch.testing.assert_close(theirs["state"], ours["state"], rtol=0, atol=0)


def test_every_callback_of_the_docs_is_tested_here():
    tested = re.findall(r'from_docs\("(\w+)"\)', Path(__file__).read_text(encoding="utf-8"))
    said = re.findall(r"^- \*\*(\w+)\*\*", SECTIONS["Callbacks"], re.MULTILINE)
    assert set(tested) == set(said) == set(CALLBACKS)


def test_all_callbacks_of_the_docs_together(run):
    result = run(*TINY, "--trainer.val_check_interval", "8", *from_file(**yaml_of("Callbacks")))
    assert result.code == 0
    assert "Learning rate set to" in result.err
    assert len(list((RUN_0 / "checkpoints").iterdir())) == 5
    assert "current_model_state" in checkpoint(RUN_0)
    assert {"lr-AdamW/pg1", "train/device/items_per_sec"} <= rows(RUN_0)[0].keys()
    assert run("fit", "--ckpt_path", "last", "--trainer.max_steps", "7").code == 0


def test_early_stopping_ends_the_run_and_says_why(run):
    ruin = ["--model.learning_rate", "10", "--model.min_lr", "10", "--trainer.max_steps", "100"]
    result = run(*TINY, *ruin, *from_docs("EarlyStopping"))
    assert result.code == 0
    losses = {int(row["step"]): float(row["val/loss"]) for row in rows(RUN_0)[1:] if row["val/loss"]}
    stopped, best = max(losses), min(losses, key=losses.__getitem__)
    assert stopped < 100
    assert stopped == best + 4  # two evaluations, two updates apart
    assert f"step {stopped}: Monitored metric val/loss did not improve in the last 2 records." in result.err
    assert f"best val loss {losses[best]:.4f} at step {best}: runs/version_0/checkpoints/best.ckpt" in result.err
    assert checkpoint(RUN_0)["global_step"] == stopped


def test_the_learning_rate_monitor_logs_every_group_at_every_update(run):
    assert run(*TINY, *from_docs("LearningRateMonitor")).code == 0
    for group in ("lr-AdamW/pg1", "lr-AdamW/pg2"):
        assert column(RUN_0, group) == column(RUN_0, "lr")


def test_the_learning_rate_that_is_found_is_said_and_trained_with(run):
    result = run(*TINY, *from_docs("LearningRateFinder"))
    assert result.code == 0
    found = float(re.search(r"^Learning rate set to (\S+)$", result.err, re.MULTILINE)[1])
    assert 1e-5 < found < 1
    assert found != 1e-3
    assert column(RUN_0, "lr")[2] == pytest.approx(found)  # after two updates of warmup
    settings = yaml.safe_load((RUN_0 / "config.yaml").read_text(encoding="utf-8"))
    assert settings["model"]["learning_rate"] == found
    assert settings["trainer"]["callbacks"] is None
    assert not list(Path("runs").glob(".lr_find*"))
    assert run(*TINY, "--model.learning_rate", str(found)).code == 0
    assert_same_run(RUN_0, RUN_1)  # the search leaves no other trace


def test_a_run_that_goes_on_keeps_the_learning_rate_that_was_found(run):
    tool = from_docs("LearningRateFinder")
    assert run(*TINY, "--trainer.max_steps", "8", *tool).code == 0
    assert run(*TINY, "--trainer.max_steps", "4", *tool).code == 0
    assert run("fit", "--ckpt_path", "last", "--trainer.max_steps", "8").code == 0
    assert_same_run(RUN_0, RUN_1)
    again = refused(run, "fit", "--ckpt_path", "last", "--trainer.max_steps", "9", *tool)
    assert again.startswith("trainer.callbacks (LearningRateFinder) must not be used, because a run that goes on")


def test_a_rate_below_the_end_of_the_schedule_is_refused_and_leaves_nothing(run):
    tool = with_callback("LearningRateFinder", max_lr=1e-5, num_training_steps=20)
    before = files()
    result = run(*TINY, *tool)
    assert result.code == 1
    assert "error: min_lr (0.0001) must be from 0 to learning_rate (" in result.err
    assert files() - before <= {"runs"}


def test_checkpoints_hold_the_averages_which_are_evaluated_and_sampled(run):
    tool = from_docs("EMAWeightAveraging")
    assert run(*TINY).code == 0
    assert run(*TINY, *tool).code == 0
    trained, averaged = checkpoint(RUN_0), checkpoint(RUN_1)
    torch.testing.assert_close(averaged["current_model_state"], trained["state_dict"], rtol=0, atol=0)
    mean = {}
    for step in range(1, 6):  # the average by hand, from runs that end at each step
        assert run(*TINY, "--trainer.max_steps", str(step), "--trainer.default_root_dir", f"step_{step}").code == 0
        weights = checkpoint(Path(f"step_{step}/version_0"))["state_dict"]
        mean = {name: weights[name].lerp(mean.get(name, weights[name]), 0.99) for name in weights}
    torch.testing.assert_close(averaged["state_dict"], mean, rtol=1e-5, atol=1e-7)
    assert rows(RUN_1)[-1]["val/loss"] != rows(RUN_0)[-1]["val/loss"]
    model = CharGPT.load_from_checkpoint(RUN_1 / "checkpoints/last.ckpt")
    torch.testing.assert_close(model.state_dict(), averaged["state_dict"], rtol=0, atol=0)
    samples = run("predict", "--ckpt_path", "last", "--num_samples=1", "--max_new_tokens=50").out
    assert samples == model.sample(max_new_tokens=50) + "\n"


def test_the_throughput_monitor_counts_all_characters_of_a_batch(run):
    settings = ["--trainer.max_steps", "14", "--trainer.val_check_interval", "14"]
    assert run(*TINY, *settings, *from_docs("ThroughputMonitor")).code == 0
    batches, characters = column(RUN_0, "train/batches"), column(RUN_0, "train/lengths")
    assert batches == list(range(1, 15))
    assert characters == [16 * batch for batch in batches]  # two windows of eight characters
    seconds, speeds = column(RUN_0, "train/time"), column(RUN_0, "train/device/items_per_sec")
    assert speeds == pytest.approx([16 * 9 / (seconds[end] - seconds[end - 9]) for end in range(9, 14)])


def test_a_gradient_accumulation_scheduler_is_accumulation_and_a_run_with_it_goes_on_exactly(run, interrupt):
    tool, settings = from_docs("GradientAccumulationScheduler"), ["--trainer.val_check_interval", "8"]
    assert run(*TINY, *settings, "--trainer.accumulate_grad_batches", "4").code == 0
    interrupt(1, 3)
    assert run(*TINY, *settings, *tool).code == 130
    assert run("fit", "--ckpt_path", "last").code == 130
    assert "changed: " not in run("fit", "--ckpt_path", "last", *tool).err
    assert_same_run(RUN_0, RUN_1)


def test_a_checkpoint_of_the_users_stands_beside_ours(run, interrupt):
    tool = [*from_docs("ModelCheckpoint"), "--trainer.max_steps", "10"]
    interrupt(5)
    assert run(*TINY, *tool).code == 130
    result = run("fit", "--ckpt_path", "last")
    assert result.code == 0
    losses = {int(row["step"]): float(row["val/loss"]) for row in rows(RUN_0) if row["val/loss"]}
    theirs = {f"{step:05}-{losses[step]:.4f}.ckpt" for step in (6, 8, 10)}
    assert {path.name for path in (RUN_0 / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt", *theirs}
    assert "at step 10: runs/version_0/checkpoints/best.ckpt" in result.err


@pytest.mark.parametrize("directory", [RUN_0, RUN_0 / "checkpoints"])
def test_a_checkpoint_of_the_users_is_not_put_among_those_of_another_run(run, tiny_run, directory):
    tool = with_callback("ModelCheckpoint", dirpath=str(directory), filename="best", enable_version_counter=False)
    message = refused(run, *TINY, *tool)
    assert message.startswith(f"ModelCheckpoint.dirpath ({directory}) must not be in the directory of a run (")


@pytest.mark.parametrize(
    ("name", "figure"),
    [("simple", "Total time (s)"), ("advanced", "function calls in"), ("pytorch", "Self CPU time total: ")],
)
def test_a_profiler_reports_on_stderr(run, name, figure):
    result = run(*TINY, "--trainer.profiler", name)
    assert result.code == 0
    assert "FIT Profiler Report" in result.err
    assert figure in result.err
    assert bool(list(RUN_0.glob("fit-*training_step*.pt.trace.json"))) == (name == "pytorch")


def test_a_profiler_with_a_filename_reports_in_the_runs_directory(run):
    result = run(*TINY, *from_file(**yaml_of("Profilers")))
    assert result.code == 0
    assert "training_step" in (RUN_0 / "fit-profile.txt").read_text(encoding="utf-8")
    assert "Profiler Report" not in result.err


def test_fast_dev_run_trains_and_evaluates_once_and_leaves_nothing(run):
    before = files()
    result = run(*TINY, "--trainer.fast_dev_run", "true")
    assert result.code == 0
    assert "step 1: train loss" in result.err
    assert files() == before


def batches_trained_on(monkeypatch) -> list[torch.Tensor]:
    seen, step = [], CharGPT.training_step

    def training_step(module, batch, batch_idx):
        seen.append(batch[0])
        return step(module, batch, batch_idx)

    monkeypatch.setattr(CharGPT, "training_step", training_step)
    return seen


@pytest.mark.parametrize("workers", ["0", "2"])
def test_overfit_batches_trains_on_the_same_batches_again_and_again(run, monkeypatch, workers):
    seen = batches_trained_on(monkeypatch)
    assert run(*TINY, "--trainer.max_steps", "4").code == 0
    first, second = seen[:2]
    seen.clear()
    few = ["--trainer.overfit_batches", "2", "--trainer.max_steps", "5", "--data.num_workers", workers]
    assert run(*TINY, *few).code == 0
    assert [batch.tolist() for batch in seen] == [batch.tolist() for batch in (first, second, first, second, first)]


def test_one_batch_is_learnt_by_heart_and_a_run_goes_on_with_it_exactly(run, interrupt):
    settings = ["--trainer.max_steps", "60", "--trainer.val_check_interval", "20", "--model.learning_rate", "0.03"]
    settings += ["--trainer.overfit_batches", "3", "--trainer.accumulate_grad_batches", "3"]
    assert run(*TINY, *settings).code == 0
    losses = column(RUN_0, "train/loss")
    assert losses[-1] < losses[0] / 2
    interrupt(10, 25)
    assert run(*TINY, *settings).code == 130
    assert run("fit", "--ckpt_path", "last").code == 130
    assert run("fit", "--ckpt_path", "last").code == 0
    assert_same_run(RUN_0, RUN_1)


@pytest.mark.filterwarnings("ignore:\\s*skip_null flag")  # jsonargparse has a new word for it since 4.49
@pytest.mark.parametrize("form", ["", "=skip_null", "=skip_default"])
def test_the_printed_settings_give_the_same_run(run, form):
    args = [*TINY, *from_docs("EMAWeightAveraging")]
    printed = run(*args, f"--print_config{form}")
    assert printed.code == 0
    Path("printed.yaml").write_text(printed.out, encoding="utf-8")
    assert run(*args).code == 0
    assert run("fit", "--config", "printed.yaml").code == 0
    assert_same_run(RUN_0, RUN_1)
    assert (RUN_0 / "config.yaml").read_text(encoding="utf-8") == (RUN_1 / "config.yaml").read_text(encoding="utf-8")


def test_what_the_docs_say_is_refused_is():
    said = re.findall(r"^\| `(\w+)` \|", SECTIONS["What cannot work, and why"], re.MULTILINE)
    assert set(said) == set(INSTEAD)


@pytest.mark.parametrize("flags", [[], ["--print_config"]], ids=["run", "print"])
@pytest.mark.parametrize("name", INSTEAD)
def test_callbacks_that_would_break_a_run_are_refused(run, name, flags):
    needed = {"OnExceptionCheckpoint": {"dirpath": "."}, "StochasticWeightAveraging": {"swa_lrs": 0.1}}
    tool = with_callback(name, **needed.get(name, {}))
    expected = f"trainer.callbacks ({name}) must not be used, because {INSTEAD[name]}"
    assert refused(run, *TINY, *tool, *flags) == expected


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("EarlyStopping", {"monitor": "train/loss"}, "EarlyStopping.monitor (train/loss) must be one of val/loss, "),
        ("EarlyStopping", {"monitor": "val/loss", "mode": "up"}, "trainer: `mode` can be min, max, got up"),
        (
            "EarlyStopping",
            {"monitor": "val/loss", "check_on_train_epoch_end": True},
            "EarlyStopping.check_on_train_epoch_end (True) must not be given, because training is one epoch",
        ),
        (
            "GradientAccumulationScheduler",
            {"scheduling": {0: 1, 5: 2}},
            "GradientAccumulationScheduler.scheduling ({0: 1, 5: 2}) must be {0: n}, because training is one epoch",
        ),
        ("GradientAccumulationScheduler", {"scheduling": {0: 0}}, "scheduling (0) must be at least 1"),
        (
            "LearningRateFinder",
            {"attr_name": "min_lr"},
            "LearningRateFinder.attr_name (min_lr) must not be given, because it sets model.learning_rate",
        ),
        (
            "LearningRateFinder",
            {"update_attr": False},
            "LearningRateFinder.update_attr (False) must not be given, because its result would not be used",
        ),
        ("ModelCheckpoint", {"monitor": "loss"}, "ModelCheckpoint.monitor (loss) must be one of val/loss, "),
        ("ModelCheckpoint", {"every_n_epochs": 2}, "ModelCheckpoint.every_n_epochs (2) must not be given, because"),
        (
            "ModelCheckpoint",
            {"every_n_train_steps": 2},
            "ModelCheckpoint.every_n_train_steps (2) must not be given, because a run can go on exactly from what is",
        ),
        (
            "ModelCheckpoint",
            {"train_time_interval": "00:01:00"},
            "ModelCheckpoint.train_time_interval (0:01:00) must not be given, because a run can go on exactly from",
        ),
        ("ModelCheckpoint", {"filename": "best"}, "ModelCheckpoint.filename (best) must be another, or dirpath be"),
        ("ModelCheckpoint", {"save_last": True}, "ModelCheckpoint.save_last (True) must be another, or dirpath be"),
    ],
)
def test_arguments_without_effect_or_with_a_wrong_one_are_refused(run, name, arguments, message):
    assert refused(run, *TINY, *with_callback(name, **arguments)).startswith(message)


def test_the_learning_rate_finder_is_refused_with_muon(run):
    message = refused(run, *TINY, "--model.optimizer", "muon", *from_docs("LearningRateFinder"))
    assert message.startswith("trainer.callbacks (LearningRateFinder) must not be used, because it tries one rate")


def test_averages_of_a_sharded_network_are_refused(run):
    strategy = ["ModelParallelStrategy", "--trainer.strategy.tensor_parallel_size", "1"]
    strategy += ["--trainer.strategy.save_distributed_checkpoint", "false"]
    message = refused(run, *TINY, "--trainer.strategy", *strategy, *from_docs("EMAWeightAveraging"))
    assert message.startswith("trainer.callbacks (EMAWeightAveraging) must not be used with ModelParallelStrategy")


def test_two_numbers_of_batches_to_accumulate_are_refused(run):
    tool = from_docs("GradientAccumulationScheduler")
    message = refused(run, *TINY, "--trainer.accumulate_grad_batches", "3", *tool)
    assert message == "trainer.accumulate_grad_batches (3) must be 4, as in the scheduler, or not be given"


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ("0.1", "trainer.overfit_batches (0.1) must be a number of batches, because training windows never end"),
        ("1.0", "trainer.overfit_batches (1.0) must be a number of batches, because training windows never end"),
        ("-1", "trainer.overfit_batches (-1) must be a multiple of accumulate_grad_batches (2)"),
        ("3", "trainer.overfit_batches (3) must be a multiple of accumulate_grad_batches (2)"),
    ],
)
def test_batches_that_cannot_be_overfitted_are_refused(run, batches, message):
    flags = ["--trainer.overfit_batches", batches, "--trainer.accumulate_grad_batches", "2"]
    assert refused(run, *TINY, *flags) == message
