"""What comes with a run reaches nothing beyond it."""

import shutil
from pathlib import Path

import pytest
import torch
import yaml
from support.command_line import TINY, files, refused

RUN = Path("runs/version_0")
LAST = RUN / "checkpoints/last.ckpt"
MORE = ["fit", "--ckpt_path", "last", "--trainer.max_steps", "6"]


def keeper(**arguments: object) -> dict:
    monitored = {"monitor": "step", "mode": "max"}
    return {"callbacks": [{"class_path": "ModelCheckpoint", "init_args": monitored | arguments}]}


def plant(settings: dict) -> None:
    path = RUN / "config.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    for group, given in settings.items():
        content[group] |= given
    path.write_text(yaml.safe_dump(content), encoding="utf-8")


BEYOND = {
    "a directory": {"trainer": keeper(dirpath="elsewhere")},
    "a directory by dots": {"trainer": keeper(dirpath="runs/version_0/../elsewhere")},
    "a file system of fsspec's": {"trainer": keeper(dirpath="memory://elsewhere")},
    "one within another": {"trainer": keeper(dirpath="reference::http://localhost/a.json")},
    "a file name with a directory": {"trainer": keeper(filename="../../best")},
    "a profiler's directory": {
        "trainer": {
            "profiler": {"class_path": "SimpleProfiler", "init_args": {"dirpath": "elsewhere", "filename": "x"}}
        }
    },
    "a logger's directory": {
        "trainer": {"logger": [{"class_path": "TensorBoardLogger", "init_args": {"save_dir": "elsewhere"}}]}
    },
    "a file to read": {"sample": {"prompt": "FILE:verse.txt"}},
}


@pytest.mark.parametrize("settings", BEYOND.values(), ids=BEYOND)
def test_the_settings_of_a_run_reach_nothing_beyond_it(run, tiny_run, settings):
    plant(settings)
    message = refused(run, *MORE)
    assert (
        "must not point outside the run's directory; if you trust it, name it again with --config or a flag" in message
    )


def test_what_the_user_names_again_is_trusted(run):
    Path("keep.yaml").write_text(yaml.safe_dump({"trainer": keeper(dirpath="elsewhere")}), encoding="utf-8")
    assert run(*TINY, "--config", "keep.yaml").code == 0
    assert "dirpath (elsewhere) must not point outside the run's directory" in refused(run, *MORE)
    assert run(*MORE, "--config", "keep.yaml").code == 0


def test_a_run_keeps_files_of_its_own(run, tiny_run):
    plant(
        {
            "trainer": keeper(
                dirpath="runs/version_0/kept", filename="{step:05.0f}-{val/loss:.4f}", auto_insert_metric_name=False
            )
        }
    )
    assert run(*MORE).code == 0
    assert len(list((RUN / "kept").glob("*.ckpt"))) == 1


def test_settings_do_not_inflate(run, tiny_run):
    bomb = "a: &a [x]\n" + "".join(
        f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdef", "bcdefg", strict=True)
    )
    (RUN / "config.yaml").write_text(bomb, encoding="utf-8")
    assert "must be at most 1 MiB of YAML without aliases" in refused(run, *MORE)


@pytest.mark.parametrize("victim", ["local://{}/elsewhere", "{}/kept/../elsewhere", "{}/elsewhere"])
def test_a_checkpoint_deletes_nothing_beyond_its_run(run, victim):
    """What a ModelCheckpoint of the user's remembers as its worst file is deleted once there is a better one."""
    Path("keep.yaml").write_text(yaml.safe_dump({"trainer": keeper(dirpath="kept")}), encoding="utf-8")
    assert run(*TINY, "--config", "keep.yaml").code == 0
    shutil.copytree("configs", "elsewhere")
    path = victim.format(Path.cwd())
    checkpoint = torch.load(LAST, weights_only=True)
    (state,) = (state for name, state in checkpoint["callbacks"].items() if name.startswith("ModelCheckpoint"))
    state |= {"best_k_models": {path: torch.tensor(0.0)}, "kth_best_model_path": path, "kth_value": torch.tensor(0.0)}
    torch.save(checkpoint, LAST)
    assert run(*MORE, "--config", "keep.yaml").code == 0
    assert Path("elsewhere/shakespeare_char.yaml").exists()


@pytest.mark.parametrize("name", ["runs/version_0", "../work/runs/version_0", ["runs"], None])
def test_a_checkpoint_beside_no_run_takes_over_none(run, tiny_run, name):
    checkpoint = torch.load(LAST, weights_only=True)
    torch.save(checkpoint | {"history": {"run": name, "rows": 0}}, "lone.ckpt")
    before = {path: Path(path).read_bytes() for path in files() if Path(path).is_file()}
    more = ["--trainer.accelerator", "cpu", "--trainer.max_steps", "6"]
    assert run("fit", "--ckpt_path", "lone.ckpt", *more).code == 0
    assert {path: Path(path).read_bytes() for path in before} == before


@pytest.mark.parametrize("score", [float("nan"), float("-inf")])
def test_a_best_without_a_finite_loss_is_refused(run, tiny_run, score):
    best = RUN / "checkpoints/best.ckpt"
    checkpoint = torch.load(best, weights_only=True)
    (state,) = (state for name, state in checkpoint["callbacks"].items() if name.startswith("BestAndLast"))
    state["best_model_score"] = torch.tensor(score)
    torch.save(checkpoint, best)
    before = {path: path.read_bytes() for path in RUN.rglob("*") if path.is_file()}
    result = run(*MORE)
    assert (result.code, "does not contain its val loss" in result.err.splitlines()[-1]) == (1, True)
    assert {path: path.read_bytes() for path in RUN.rglob("*") if path.is_file()} == before


def test_a_checkpoint_cannot_ask_for_a_larger_network_than_it_holds(run, tiny_run):
    checkpoint = torch.load(LAST, weights_only=True)
    checkpoint["hyper_parameters"]["n_layer"] = 10**6
    torch.save(checkpoint, LAST)
    assert "must be a checkpoint of chargpt_lightning or of nanoGPT" in refused(run, "predict", "--ckpt_path", "last")
