"""config.yaml of a run: it gives the same run again, and reaches no files outside of it."""

from pathlib import Path

import pytest
import yaml
from support.command_line import TINY, refused, rows

from chargpt_lightning.cli.run_config import require_contained
from chargpt_lightning.utils.errors import ConfigError

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
def test_settings_of_a_run_that_reach_beyond_it_are_refused(run, tiny_run, settings):
    plant(settings)
    message = refused(run, *MORE)
    assert (
        "must not point outside the run's directory; if you trust it, name it again with --config or a flag" in message
    )


def test_a_tilde_reaches_beyond_a_run_that_is_the_working_directory():
    """Where `~` would be a folder of the run if it was not expanded."""
    Path("config.yaml").write_text(yaml.safe_dump({"trainer": keeper(dirpath="~/kept")}), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"dirpath \(~/kept\) must not point outside the run's directory"):
        require_contained(Path(), set())


def test_settings_that_the_user_names_again_are_trusted(run):
    Path("keep.yaml").write_text(yaml.safe_dump({"trainer": keeper(dirpath="elsewhere")}), encoding="utf-8")
    assert run(*TINY, "--config", "keep.yaml").code == 0
    assert "dirpath (elsewhere) must not point outside the run's directory" in refused(run, *MORE)
    assert run(*MORE, "--config", "keep.yaml").code == 0


def test_a_run_may_keep_files_in_its_own_directory(run, tiny_run):
    plant(
        {
            "trainer": keeper(
                dirpath="runs/version_0/kept", filename="{step:05.0f}-{val/loss:.4f}", auto_insert_metric_name=False
            )
        }
    )
    assert run(*MORE).code == 0
    assert len(list((RUN / "kept").glob("*.ckpt"))) == 1


def test_yaml_with_aliases_is_refused(run, tiny_run):
    bomb = "a: &a [x]\n" + "".join(
        f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdef", "bcdefg", strict=True)
    )
    (RUN / "config.yaml").write_text(bomb, encoding="utf-8")
    assert "must be at most 1 MiB of YAML without aliases" in refused(run, *MORE)


def test_a_saved_config_gives_the_same_run(run, tiny_run):
    losses = [row["train/loss"] for row in rows(tiny_run)]
    assert run("fit", "--config", str(tiny_run / "config.yaml")).code == 0
    assert [row["train/loss"] for row in rows(Path("runs/version_1"))] == losses


def test_a_runs_settings_are_ascii(run):
    text = Path("verse.txt").rename("Zoë.txt")
    assert run(*TINY, "--data.text", str(text)).code == 0
    assert Path("runs/version_0/config.yaml").read_bytes().isascii()
    resumed = run("fit", "--ckpt_path", "last", "--trainer.max_steps", "6")
    assert resumed.code == 0, resumed.err
    assert "data.text" not in resumed.err
