"""Lightning's own tools, with the YAML of docs/toolbox.md: each has its effect."""

import re
from pathlib import Path

import pytest
import torch
import yaml
from support.command_line import TINY, assert_same_run, exact_rows, files, refused, rows
from support.toolbox import CALLBACKS, SECTIONS, from_docs, from_file, yaml_of

from chargpt_lightning import CharGPT

RUN_0, RUN_1 = Path("runs/version_0"), Path("runs/version_1")


def checkpoint(run_dir: Path, name: str = "last") -> dict:
    return torch.load(run_dir / f"checkpoints/{name}.ckpt", weights_only=True)


def assert_same_training(one: Path, other: Path) -> None:
    """Asserts that two runs have the same rows, weights and moments, but not that they counted batches alike."""
    assert exact_rows(one) == exact_rows(other)
    first, second = checkpoint(one), checkpoint(other)
    torch.testing.assert_close(first["state_dict"], second["state_dict"], rtol=0, atol=0)
    moments = [state["optimizer_states"][0]["state"] for state in (first, second)]
    torch.testing.assert_close(*moments, rtol=0, atol=0)


def column(run_dir: Path, name: str) -> list[float]:
    return [float(row[name]) for row in rows(run_dir) if row[name]]


def test_every_callback_of_the_docs_is_tested_here():
    tested = re.findall(r'from_docs\("(\w+)"\)', Path(__file__).read_text(encoding="utf-8"))
    described = re.findall(r"^- \*\*(\w+)\*\*", SECTIONS["Callbacks"], re.MULTILINE)
    assert set(tested) == set(described) == set(CALLBACKS)


def test_all_callbacks_of_the_docs_work_together(run):
    result = run(*TINY, "--trainer.val_check_interval", "8", *from_file(**yaml_of("Callbacks")))
    assert result.code == 0
    assert "Learning rate set to" in result.err
    assert len(list((RUN_0 / "checkpoints").iterdir())) == 5
    assert "current_model_state" in checkpoint(RUN_0)
    assert {"lr-AdamW/pg1", "train/device/items_per_sec"} <= rows(RUN_0)[0].keys()
    assert run("fit", "--ckpt_path", "last", "--trainer.max_steps", "7").code == 0


def test_early_stopping_ends_the_run_and_prints_why(run):
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


def test_the_learning_rate_that_is_found_is_printed_and_used(run):
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
    assert_same_training(RUN_0, RUN_1)  # the search leaves no other trace


def test_a_resumed_run_keeps_the_learning_rate_that_was_found(run):
    tool = from_docs("LearningRateFinder")
    assert run(*TINY, "--trainer.max_steps", "8", *tool).code == 0
    assert run(*TINY, "--trainer.max_steps", "4", *tool).code == 0
    assert run("fit", "--ckpt_path", "last", "--trainer.max_steps", "8").code == 0
    assert_same_run(RUN_0, RUN_1)
    again = refused(run, "fit", "--ckpt_path", "last", "--trainer.max_steps", "9", *tool)
    assert again.startswith("trainer.callbacks (LearningRateFinder) must not be used, because a resumed run")


def test_averaged_weights_are_saved_evaluated_and_sampled(run):
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


def test_a_gradient_accumulation_scheduler_is_accumulation_and_resumes_exactly(run, interrupt):
    tool, settings = from_docs("GradientAccumulationScheduler"), ["--trainer.val_check_interval", "8"]
    assert run(*TINY, *settings, "--trainer.accumulate_grad_batches", "4").code == 0
    interrupt(1, 3)
    assert run(*TINY, *settings, *tool).code == 130
    assert run("fit", "--ckpt_path", "last").code == 130
    assert "changed: " not in run("fit", "--ckpt_path", "last", *tool).err
    assert_same_run(RUN_0, RUN_1)


def test_a_users_checkpoint_is_saved_beside_best_and_last(run, interrupt):
    tool = [*from_docs("ModelCheckpoint"), "--trainer.max_steps", "10"]
    interrupt(5)
    assert run(*TINY, *tool).code == 130
    result = run("fit", "--ckpt_path", "last")
    assert result.code == 0
    losses = {int(row["step"]): float(row["val/loss"]) for row in rows(RUN_0) if row["val/loss"]}
    kept = {f"{step:05}-{losses[step]:.4f}.ckpt" for step in (6, 8, 10)}
    assert {path.name for path in (RUN_0 / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt", *kept}
    assert "at step 10: runs/version_0/checkpoints/best.ckpt" in result.err


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


@pytest.mark.parametrize(("given", "steps"), [("true", 1), ("2", 2)])
def test_a_dry_run_trains_and_evaluates_and_leaves_no_files(run, given, steps):
    before = files()
    result = run(*TINY, "--trainer.fast_dev_run", given)
    assert result.code == 0
    assert f"step {steps}: train loss" in result.err
    assert files() == before


def batches_trained_on(monkeypatch) -> list[torch.Tensor]:
    seen, step = [], CharGPT.training_step

    def training_step(module, batch, batch_idx):
        seen.append(batch[0])
        return step(module, batch, batch_idx)

    monkeypatch.setattr(CharGPT, "training_step", training_step)
    return seen


@pytest.mark.parametrize("workers", ["0", "2"])
def test_overfit_batches_repeats_the_same_batches(run, monkeypatch, workers):
    seen = batches_trained_on(monkeypatch)
    assert run(*TINY, "--trainer.max_steps", "4").code == 0
    first, second = seen[:2]
    seen.clear()
    few = ["--trainer.overfit_batches", "2", "--trainer.max_steps", "5", "--data.num_workers", workers]
    assert run(*TINY, *few).code == 0
    assert [batch.tolist() for batch in seen] == [batch.tolist() for batch in (first, second, first, second, first)]


def test_a_run_that_overfits_a_batch_learns_it_and_resumes_exactly(run, interrupt):
    settings = ["--trainer.max_steps", "60", "--trainer.val_check_interval", "21", "--model.learning_rate", "0.03"]
    settings += ["--trainer.overfit_batches", "3", "--trainer.accumulate_grad_batches", "3"]
    assert run(*TINY, *settings).code == 0
    losses = column(RUN_0, "train/loss")
    assert losses[-1] < losses[0] / 2
    interrupt(10, 25)
    assert run(*TINY, *settings).code == 130
    assert run("fit", "--ckpt_path", "last").code == 130
    assert run("fit", "--ckpt_path", "last").code == 0
    assert_same_training(RUN_0, RUN_1)


@pytest.mark.filterwarnings("ignore:\\s*skip_null flag")  # renamed in jsonargparse 4.49
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
