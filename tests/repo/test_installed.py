"""The wheel, installed without a clone: its files, a run by the name of a recipe, and its types."""

import os
import re
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from support import ROOT

pytestmark = pytest.mark.slow

CONSUMER = """
from chargpt_lightning import CharDataModule, CharGPT
data: CharDataModule = CharDataModule(text="plays")
network: CharGPT = CharGPT("abc", n_layer={n_layer})
"""


def python(*args: object, **kwargs: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, args)], capture_output=True, text=True, timeout=300, check=False, **kwargs
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from the files that git knows or would add, without a network."""
    clean, dist = tmp_path_factory.mktemp("clean"), tmp_path_factory.mktemp("dist")
    listed = subprocess.check_output(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, text=True
    )
    for name in listed.split("\0")[:-1]:
        (clean / name).parent.mkdir(parents=True, exist_ok=True)
        (clean / name).write_bytes((ROOT / name).read_bytes())
    built = python("-m", "hatchling", "build", "-t", "wheel", "-d", dist, cwd=clean)
    assert built.returncode == 0, built.stderr
    (path,) = dist.iterdir()
    return path


@pytest.fixture(scope="module")
def site(wheel, tmp_path_factory) -> Path:
    """Where the wheel is installed."""
    site = tmp_path_factory.mktemp("site")
    installed = python("-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", site, wheel)
    assert installed.returncode == 0, installed.stderr
    return site


def test_the_wheel_holds_package_recipes_and_the_mark_of_types_and_no_more(wheel):
    expected = {path.relative_to(ROOT).as_posix() for path in (ROOT / "chargpt_lightning").rglob("*.py")}
    expected |= {f"chargpt_lightning/configs/{path.name}" for path in (ROOT / "configs").glob("*.yaml")}
    names = zipfile.ZipFile(wheel).namelist()
    assert {name for name in names if ".dist-info/" not in name} == expected | {"chargpt_lightning/py.typed"}


def test_it_trains_by_a_recipes_name_in_an_empty_directory(site, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(site))
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    script = "import chargpt_lightning.__main__ as m; print(m.__file__); m.main()"
    small = ["--trainer.accelerator", "cpu", "--trainer.max_steps", "2", "--data.eval_iters", "1"]
    fit = python("-c", script, "fit", "--config", "shakespeare_char", "--data.text", "plays", *small)
    assert fit.returncode == 0, fit.stderr
    assert fit.stdout.strip() == str(site / "chargpt_lightning" / "__main__.py")
    assert re.search(r"^step 2: train loss ", fit.stderr, re.MULTILINE)
    run = Path("runs/shakespeare_char/version_0")
    assert (run / "checkpoints" / "best.ckpt").exists()
    assert str(site) not in (run / "config.yaml").read_text(encoding="utf-8")
    printed = python("-m", "chargpt_lightning", "--version")
    assert re.fullmatch(r"chargpt_lightning \d+\.\d+\.\d+\n", printed.stdout)


@pytest.fixture
def mypy(site, tmp_path):
    """Reads a consumer strictly, in an environment that has nothing but the installed package."""
    (tmp_path / "consumer").mkdir()
    venv.create(tmp_path / "env")
    base = dict.fromkeys(("base", "platbase", "installed_base", "installed_platbase"), str(tmp_path / "env"))
    packages, scripts = (Path(sysconfig.get_path(name, "venv", base)) for name in ("purelib", "scripts"))
    (packages / "site.pth").write_text(str(site), encoding="utf-8")

    def mypy(**kwargs: object) -> str:
        (tmp_path / "consumer" / "consumer.py").write_text(CONSUMER.format(**kwargs), encoding="utf-8")
        strict = ["--strict", "--python-executable", scripts / Path(sys.executable).name, "consumer.py"]
        environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MYPYPATH")}
        return python("-m", "mypy", *strict, cwd=tmp_path / "consumer", env=environment).stdout

    return mypy


def test_a_strict_type_checker_sees_the_installed_packages_types(mypy):
    assert mypy(n_layer="2").startswith("Success: no issues found")
    assert 'Argument "n_layer" to "CharGPT" has incompatible type "str"; expected "int"' in mypy(n_layer="'two'")


def test_without_the_mark_it_would_see_none(mypy, site):
    mark = site / "chargpt_lightning" / "py.typed"
    mark.unlink()
    try:
        assert "missing library stubs or py.typed marker" in mypy(n_layer="2")
    finally:
        mark.touch()
