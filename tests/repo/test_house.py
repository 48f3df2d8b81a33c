"""The layout of the package: which folder may import which, how large files may be, and that each has its tests."""

import ast
import importlib.metadata
import re
import shutil
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import ROOT

PACKAGE = ROOT / "chargpt_lightning"
FLOORS = (  # from the ground up; a room imports only rooms on lower floors
    {"utils"},
    {"models", "optim", "vocab"},
    {"data", "sampling"},
    {"checkpoints", "datamodule", "loggers"},
    {"module"},
    {"callbacks"},
    {"trainer"},
    {"cli"},
)
FRONT = {"__init__", "__main__"}  # may import any room
NO_LIGHTNING = {"models", "optim", "sampling", "utils", "vocab"}
ASK_FOR_THE_RANK = {"utils.console", "utils.run_dir"}
RANK = "lightning.pytorch.utilities"
MUST_NOT_MEET = {"module": {"data", "datamodule"}, "datamodule": {"models", "optim", "module"}}
MOST_ENTRIES, MOST_LINES, MOST_LINES_OF_A_FUNCTION, MOST_LINES_OF_THE_PAGE = 16, 260, 50, 300


def sources(package: Path) -> dict[str, ast.Module]:
    """The files of the package by dotted name, without the package's own; a folder's `__init__` has the folder's."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
        found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def imported(tree: ast.Module) -> Iterator[str]:
    """All modules that a file imports, wherever in it; of `from a import b` both `a` and `a.b`."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (name.name for name in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                package = "." * level + (module or "")
                yield package
                yield from (f"{package}.{name.name}" for name in names)


def siblings(package: Path) -> dict[str, set[str]]:
    """Which other files of the package each file imports."""
    trees = sources(package)
    arrows = {}
    for name, tree in trees.items():
        paths = (re.sub(r"^chargpt_lightning(\.|$)", "", path) or "__init__" for path in imported(tree))
        arrows[name] = {path for path in paths if path in trees} - {name}
    return arrows


def rooms(package: Path) -> dict[str, set[str]]:
    """Which other rooms each room imports; a room is a folder, or a file at the top."""
    arrows: dict[str, set[str]] = {}
    for name, others in siblings(package).items():
        room = name.split(".")[0]
        arrows.setdefault(room, set()).update({other.split(".")[0] for other in others} - {room})
    return arrows


def circles(package: Path) -> list[str]:
    """Files, or rooms, that import each other in a circle."""
    found = []
    for arrows in (siblings(package), rooms(package)):
        left = dict(arrows)
        while free := {name for name, others in left.items() if not others & left.keys()}:
            left = {name: others for name, others in left.items() if name not in free}
        found += [f"{name} is in a circle or imports one" for name in sorted(left)]
    return found


def upward_imports(package: Path) -> list[str]:
    """Rooms that import another on their own floor or above it, and rooms on no floor."""
    floor = {room: number for number, floor_rooms in enumerate(FLOORS) for room in floor_rooms}
    floor |= dict.fromkeys(FRONT, len(FLOORS))
    arrows = rooms(package)
    found = [f"{room} is on no floor" for room in sorted(arrows.keys() - floor.keys())]
    known = {room: others & floor.keys() for room, others in arrows.items() if room in floor}
    return found + [
        f"{room} imports {other}, which is not on a lower floor"
        for room, others in known.items()
        for other in sorted(others)
        if floor[other] >= floor[room] and room != "__main__"
    ]


def lightning_imports(package: Path) -> list[str]:
    """Files below Lightning that import it; two may ask it for the rank."""
    return [
        f"{name} imports {path}"
        for name, tree in sources(package).items()
        if name.split(".")[0] in NO_LIGHTNING
        for path in imported(tree)
        if re.match(r"(lightning|pytorch_lightning)\b", path)
        and not (name in ASK_FOR_THE_RANK and path in (RANK, f"{RANK}.rank_zero_only"))
    ]


def meetings(package: Path) -> list[str]:
    """Imports between the data and the module, which meet in `cli` only."""
    return [
        f"{room} imports {other}"
        for room, others in rooms(package).items()
        for other in sorted(others & MUST_NOT_MEET.get(room, set()))
    ]


def relative_imports(package: Path) -> list[str]:
    """Imports by a relative path, which the other rules do not see."""
    return [f"{name} imports {p}" for name, tree in sources(package).items() for p in imported(tree) if p[:1] == "."]


def oversized(package: Path) -> list[str]:
    """Files and functions that are too long, and a top level with too many entries."""
    entries = [path for path in package.iterdir() if path.name != "__pycache__"]
    found = [f"{len(entries)} entries at the top"] if len(entries) > MOST_ENTRIES else []
    for path in sorted(package.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if (lines := len(text.splitlines())) > MOST_LINES:
            found.append(f"{path.relative_to(package).as_posix()} has {lines} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                if lines > MOST_LINES_OF_A_FUNCTION:
                    found.append(f"{path.relative_to(package).as_posix()}: {node.name} has {lines} lines")
    return found


def large_page(package: Path) -> list[str]:
    """The page of `play`, which is to stay small, if it has too many lines; blank ones do not count."""
    texts = [path.read_text(encoding="utf-8") for path in (package / "cli/page").glob("*.py")]
    lines = sum(bool(line.strip()) for text in texts for line in text.splitlines())
    return [f"cli/page has {lines} lines"] * (lines > MOST_LINES_OF_THE_PAGE)


def untested(package: Path) -> list[str]:
    """Modules without a test file at the same path below tests/; `__main__` is tested in tests/end_to_end."""
    modules = [path.relative_to(package) for path in sorted(package.rglob("*.py")) if not path.stem.startswith("__")]
    tests = {module: Path("tests", module.parent, f"test_{module.name}") for module in modules}
    return [
        f"{module.as_posix()} has no {test.as_posix()}" for module, test in tests.items() if not (ROOT / test).exists()
    ]


RULES = (circles, upward_imports, lightning_imports, meetings, relative_imports, oversized, large_page, untested)
BREACHES = [  # rule, file, what is added to it, what it reports
    (circles, "models/attention.py", "from chargpt_lightning.models.base import GPTConfig", "models.attention is in a"),
    (circles, "utils/errors.py", "def f():\n    from chargpt_lightning.vocab import CharVocab", "utils is in a circle"),
    (upward_imports, "data/corpus.py", "import chargpt_lightning.cli.recipes", "data imports cli, which is not on a"),
    (upward_imports, "optim/muon.py", "from chargpt_lightning.models.gpt import GPT", "optim imports models, which is"),
    (upward_imports, "metrics.py", "", "metrics is on no floor"),
    (upward_imports, "utils/errors.py", "from chargpt_lightning import vocab", "utils imports vocab, which is not"),
    (upward_imports, "cli/cli.py", "from chargpt_lightning import CharGPT", "cli imports __init__, which is not"),
    (lightning_imports, "models/gpt.py", "import lightning as L", "models.gpt imports lightning"),
    (
        lightning_imports,
        "vocab.py",
        "from lightning.pytorch.utilities import rank_zero_only",
        "vocab imports lightning",
    ),
    (lightning_imports, "utils/console.py", "from lightning.pytorch import Trainer", "utils.console imports lightning"),
    (meetings, "module.py", "from chargpt_lightning.data.corpus import Corpus", "module imports data"),
    (meetings, "datamodule.py", "from chargpt_lightning.models.base import GPTConfig", "datamodule imports models"),
    (relative_imports, "optim/muon.py", "from .config import OptimizerConfig", "optim.muon imports .config"),
    (oversized, "eighth.py", "", "17 entries at the top"),
    (oversized, "vocab.py", "\n" * 300, "vocab.py has "),
    (oversized, "vocab.py", "def f():\n" + "    pass\n" * 50, "vocab.py: f has 51 lines"),
    (large_page, "cli/page/more.py", "pass\n" * 200, "cli/page has "),
    (untested, "optim/adam.py", "", "optim/adam.py has no tests/optim/test_adam.py"),
    (untested, "metrics.py", "", "metrics.py has no tests/test_metrics.py"),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_package_keeps_the_rule(rule):
    breaches = rule(PACKAGE)
    assert not breaches, "\n".join(breaches)


@pytest.mark.parametrize(("rule", "file", "added", "report"), BREACHES)
def test_the_rule_finds_a_planted_breach(tmp_path, rule, file, added, report):
    package = shutil.copytree(PACKAGE, tmp_path / "package", ignore=shutil.ignore_patterns("__pycache__"))
    with (package / file).open("a", encoding="utf-8") as source:
        source.write(f"\n{added}\n")
    assert any(breach.startswith(report) for breach in rule(package)), rule(package)


HOUSE = (ROOT / "docs" / "house.md").read_text(encoding="utf-8")


def test_the_map_has_a_line_for_every_file():
    """Folders before their files, in the order of the tree."""
    mapped, above = [], []
    for indent, name in re.findall(r"^    ( *)(\w+(?:/|\.py)) {2,}\S", HOUSE, re.MULTILINE):
        above = above[: len(indent) // 4]
        mapped.append("".join(above) + name)
        above += [name] * name.endswith("/")
    files = {path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py")}
    folders = {f"{folder.as_posix()}/" for file in files for folder in file.parents if folder.name}
    names = {file.as_posix() for file in files if file.stem != "__init__" or not file.parent.name}
    assert sorted(mapped) == sorted(folders | names)


def test_the_map_has_the_floors_and_the_arrows_between_rooms():
    rows = re.findall(r"^\| (\d) \| `(\w+)` \|(.*)\|$", HOUSE, re.MULTILINE)
    arrows = {room: others for room, others in rooms(PACKAGE).items() if room not in FRONT}
    assert {room: set(re.findall(r"`(\w+)`", others)) for _, room, others in rows} == arrows
    assert [(int(number), room) for number, room, _ in rows] == [
        (number, room) for number, floor in enumerate(FLOORS) for room in sorted(floor)
    ]
    assert f"{sum(map(len, arrows.values()))} arrows" in HOUSE


OF_TRANSFORMERS = {"safetensors", "tokenizers"}  # which requires them


def test_every_package_that_is_imported_is_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].items()
    lines = project["dependencies"] + [line for name, more in extras if name not in ("test", "dev") for line in more]
    declared = {re.split(r"[\[<>=]", line)[0] for line in lines}
    roots = {name.partition(".")[0] for tree in sources(PACKAGE).values() for name in imported(tree)}
    distributions = importlib.metadata.packages_distributions()
    for root in roots - sys.stdlib_module_names - {"chargpt_lightning"} - OF_TRANSFORMERS:
        assert declared & set(distributions[root]), f"{root} is imported, but {distributions[root]} is not declared"


def test_everything_written_by_hand_has_its_reason():
    rows = HOUSE.split("\n## Written by hand")[1].splitlines()
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows if row.startswith("| ")][1:]
    assert len(cells) > 10
    for row in cells:
        assert len(row) == 3
        assert all(row)
        assert re.sub(r"`[^`]*`|[\s,.]|\band\b", "", row[2]), f"no reason in words: {row}"
