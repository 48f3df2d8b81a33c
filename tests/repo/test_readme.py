"""The commands, the Python, the links and the maps in the README, CONTRIBUTING.md and the docs."""

import re
import shlex
import sys
from pathlib import Path

import pytest

pytest.importorskip("wandb")

import yaml
from support import ROOT
from support.processes import two_devices

README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = {path.name: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))}
NETWORK = ["--trainer.accelerator", "cpu", "--model.n_layer", "1", "--model.n_embd", "12", "--model.block_size", "8"]
SMALL = [
    *NETWORK,
    *("--trainer.max_steps", "2", "--data.eval_iters", "1", "--model.lr_decay_iters", "2"),
    *("--model.compile", "false", "--trainer.precision", "32-true"),
]


def commands(text: str) -> list[str]:
    """The arguments of each command of this package in the text's bash blocks."""
    blocks = re.findall(r"```(?:bash|sh)\n(.*?)```", text, re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [shown[1] for line in lines if (shown := re.search(r"(?:-m chargpt_lightning|\bchargpt) (\w.*)", line))]


def made_small(command: str) -> list[str]:
    """A command's arguments with a tiny network, a short run and a text that needs no download."""
    args = shlex.split(command, comments=True)
    if args[0] == "fit":
        args += SMALL if "--data.text" in args else [*SMALL, "--data.text", "verse.txt"]
    return args + NETWORK if args[0] in ("validate", "predict") else args


def test_the_readme_shows_all_subcommands():
    shown = {command.split()[0] for command in commands(README)}
    assert shown == {"fit", "validate", "predict", "plot", "play"}
    assert "export" in {command.split()[0] for command in commands(DOCS["checkpoints.md"])}


def test_the_readme_is_short_and_links_to_all_docs():
    assert README.count("\n") <= 300
    assert set(re.findall(r"\(docs/(\S+\.md)\)", README)) == DOCS.keys()


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "docs/first-steps.md"])
def test_links_to_files_work(name):
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", (ROOT / name).read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if not (ROOT / name).parent.joinpath(link).is_file()] == []


def test_the_readme_has_a_line_for_every_folder_and_file_at_the_top_of_the_package():
    mapped = re.findall(r"^    (\w+(?:/|\.py)) {2,}\S", README, re.MULTILINE)
    package = ROOT / "chargpt_lightning"
    files = {path.name for path in package.glob("*.py") if not path.name.startswith("__")}
    folders = {f"{path.parent.name}/" for path in package.glob("*/*.py")}
    assert sorted(mapped) == sorted(files | folders)


def test_the_readme_and_the_house_name_the_same_five_files_first():
    readme, house = (
        re.findall(r"`(\S+\.py)`\s\(", text.partition("Read these five first")[2])
        for text in (README, DOCS["house.md"])
    )
    assert readme == house
    assert len(house) == 5


def test_the_hooks_need_no_network():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert [repo["repo"] for repo in config["repos"]] == ["local"]
    assert {hook["language"] for hook in config["repos"][0]["hooks"]} == {"system"}


@pytest.mark.usefixtures("wandb_offline")
@pytest.mark.parametrize("name", ["README.md", *DOCS])
def test_the_commands_work(run, name):
    own_text = "ROMEO:\n" + Path("verse.txt").read_text(encoding="utf-8")
    for text in ("my.txt", "verse.txt"):
        Path(text).write_text(own_text, encoding="utf-8")
    Path("books").mkdir()
    for book in ("one", "two"):
        Path(f"books/{book}.txt").write_text(own_text, encoding="utf-8")
    if name != "README.md":  # its first command trains
        assert run("fit", *SMALL, "--data.text", "my.txt").code == 0
    for command in commands(README if name == "README.md" else DOCS[name]):
        if command == "play":
            continue  # it serves until Ctrl-C: tests/cli/page
        args = made_small(command)
        if "--trainer.devices" in args:  # its other processes run the command line again
            if sys.platform == "win32":
                continue  # torch cannot start several devices there
            result = two_devices(*args)
        else:
            result = run(*args)
        assert result.code == 0, (command, result.err)


def test_the_readmes_python_works(run, capfd):
    Path("my.txt").write_text("ROMEO:\n" + Path("verse.txt").read_text(encoding="utf-8"), encoding="utf-8")
    assert run("fit", *SMALL, "--data.text", "verse.txt").code == 0
    for program in ("hf", "onnx"):
        assert run("export", "--format", program, "--out", f"for_{program}").code == 0
    for block in re.findall(r"```python\n(.*?)```", "".join([README, *DOCS.values()]), re.DOTALL):
        exec(block, {})
    assert "ROMEO:" in capfd.readouterr().out


def test_ci_runs_the_readmes_own_test_command():
    assert README.count("\n## Run the tests\n") == 1
    assert """readme '## Run the tests'""" in (ROOT / ".ci/run").read_text(encoding="utf-8")
