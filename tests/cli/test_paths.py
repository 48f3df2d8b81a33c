"""`~` in the settings that are paths, in flags and in files."""

import shutil
from pathlib import Path

import pytest
import yaml
from jsonargparse import Namespace
from support.command_line import TINY, VERSE
from support.platforms import needs

from chargpt_lightning.cli.paths import expand_paths


@pytest.fixture
def home() -> Path:
    """The home directory, with a text, a prompt, and a file of settings."""
    home = Path.home()
    home.mkdir()
    shutil.copy("verse.txt", home / "verse.txt")
    (home / "prompt.txt").write_text(VERSE, encoding="utf-8")
    keeper = {"class_path": "ModelCheckpoint", "init_args": {"dirpath": "~/kept", "monitor": "step", "mode": "max"}}
    settings = {"data": {"text": "~/verse.txt"}, "trainer": {"default_root_dir": "~/runs", "callbacks": [keeper]}}
    (home / "my.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    return home


@needs("matplotlib")
def test_a_tilde_is_the_home_directory_in_every_command(run, home):
    sizes = [arg for arg in TINY if arg not in ("--data.text", "verse.txt")]
    assert run(*sizes, "--config=~/my.yaml").code == 0
    saved = yaml.safe_load((home / "runs/version_0/config.yaml").read_text(encoding="utf-8"))
    assert saved["trainer"]["default_root_dir"] == str(home / "runs")
    assert saved["trainer"]["callbacks"][0]["init_args"]["dirpath"] == str(home / "kept")
    assert saved["data"]["text"] == str(home / "verse.txt")
    assert list((home / "kept").iterdir())
    short = ("--num_samples=1", "--max_new_tokens=3", "--sample.prompt=FILE:~/prompt.txt")
    for place in ("--ckpt_path=~/runs/version_0", "--trainer.default_root_dir=~/runs", "--out_dir=~/runs"):
        assert VERSE in run("predict", place, *short).out
    assert run("export", "--format=nanogpt", "--ckpt_path=~/runs/version_0", "--out=~/exported").code == 0
    assert (home / "exported/ckpt.pt").exists()
    assert run("plot", "~/runs/version_0", "--out=~/curves.svg").code == 0
    assert (home / "curves.svg").exists()
    assert not Path("~").exists()


@pytest.mark.parametrize(
    ("given", "expanded"),
    [
        ("~/*.txt", "{0}/*.txt"),
        (["~/a.txt", "b.txt"], ["{0}/a.txt", "b.txt"]),
        (Path("~"), Path("{0}")),
        (None, None),
        ("plays", "plays"),
    ],
)
def test_a_path_keeps_its_type(given, expanded):
    home = str(Path.home())
    if isinstance(expanded, list):
        expanded = [path.format(home) for path in expanded]
    elif expanded is not None:
        expanded = type(expanded)(str(expanded).format(home))
    assert expand_paths(Namespace(data=Namespace(text=given))) == Namespace(data=Namespace(text=expanded))


def test_a_setting_that_is_no_path_stays_as_it_is():
    assert expand_paths(Namespace(sample=Namespace(prompt="~"))).sample.prompt == "~"
