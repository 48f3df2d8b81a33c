"""Settings of the Trainer in files: Lightning's own tools as docs/toolbox.md shows them."""

import re
from pathlib import Path

import yaml

from support import ROOT

DOCS = (ROOT / "docs/toolbox.md").read_text(encoding="utf-8")


SECTIONS = dict(section.split("\n", maxsplit=1) for section in DOCS.split("\n## "))


def yaml_of(heading: str) -> dict:
    """The Trainer's settings in the only YAML of a section."""
    (block,) = re.findall(r"```yaml\n(.*?)```", SECTIONS[heading], re.DOTALL)
    return yaml.safe_load(block)["trainer"]


CALLBACKS = {callback["class_path"]: callback["init_args"] for callback in yaml_of("Callbacks")["callbacks"]}


def from_file(**trainer: object) -> list[str]:
    """Writes settings of the Trainer into a file; returns the flags that read it."""
    Path("tool.yaml").write_text(yaml.safe_dump({"trainer": trainer}), encoding="utf-8")
    return ["--config", "tool.yaml"]


def with_callback(name: str, **arguments: object) -> list[str]:
    """The flags for one of Lightning's callbacks."""
    return from_file(callbacks=[{"class_path": name, "init_args": arguments}])


def from_docs(name: str) -> list[str]:
    """The flags for one callback with the arguments that the docs give it."""
    return with_callback(name, **CALLBACKS[name])
