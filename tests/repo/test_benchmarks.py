"""The arithmetic of the benchmarks, and all of their sections at small sizes with a stub of nanoGPT."""

import json
import math
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from support import ROOT, nanogpt_training
from support.nanogpt_folder import prepare
from support.processes import Python

pytest.importorskip("termios", reason="the benchmarks run commands at pseudo-terminals")

from benchmarks import compilation, contenders, ladder, ladder_picture, sampling
from benchmarks.__main__ import SECTIONS, main
from benchmarks.bench import QUICK, Bench
from benchmarks.clock import WARMUP, steady_ms, steps_ms, timed_ms
from benchmarks.compilation import break_even
from benchmarks.contenders import nanogpt_base_step_ms, nanogpt_train, run
from benchmarks.figures import Row, compare, interleave, not_measured, table
from benchmarks.growth import repeat
from benchmarks.step import add_shares
from benchmarks.workers.ablation import CHANGES, measure
from benchmarks.workers.training_loop import step_gflop
from chargpt_lightning import GPT, GPTConfig
from chargpt_lightning.models import modern
from chargpt_lightning.optim import muon

NANOGPT = {
    "train.py": """
import pathlib, shutil, sys
flags = dict(flag.removeprefix("--").split("=") for flag in sys.argv[2:])
pathlib.Path(flags["out_dir"]).mkdir(exist_ok=True)
shutil.copy("trained.pt", flags["out_dir"] + "/ckpt.pt")
for step in range(int(flags["max_iters"]) + 1):
    slow = step % int(flags.get("eval_interval", 250)) == 0
    print(f"iter {step}: loss 4.0000, time {1000 if slow else 25}.00ms, mfu -100.00%")
""",
    "sample.py": "import tiktoken",
    "model.py": """
from types import SimpleNamespace
GPTConfig = SimpleNamespace

class GPT:
    def __init__(self, config):
        print("number of parameters: 0.80M")

    def eval(self):
        pass

    def generate(self, ids, max_new_tokens, temperature, top_k):
        pass
""",
}


@pytest.fixture
def nanogpt(tmp_path) -> Path:
    """A directory with programs that print what nanoGPT's print."""
    directory = tmp_path / "nanoGPT"
    directory.mkdir()
    for name, source in NANOGPT.items():
        (directory / name).write_text(source, encoding="utf-8")
    prepare(str(directory / "data/shakespeare_char"), nanogpt_training.TEXT)
    torch.save(nanogpt_training.NanoGPT().content(), directory / "trained.pt")
    return directory


def test_contenders_are_measured_round_by_round():
    order = []
    contenders = {name: lambda name=name: order.append(name) or {"ms": float(len(order))} for name in "ab"}
    assert interleave(contenders, rounds=2) == {"a": [{"ms": 1.0}, {"ms": 3.0}], "b": [{"ms": 2.0}, {"ms": 4.0}]}
    assert order == ["a", "b", "a", "b"]


def test_ratios_are_computed_in_each_round():
    measured = {"fit": [{"ms": 1.0, "mib": 7.0}, {"ms": 6.0, "mib": 7.0}], "nanoGPT": [{"ms": 2.0}, {"ms": 3.0}]}
    rows = compare(measured, ["ms"], [("fit", "nanoGPT"), ("fit", "absent")])
    assert rows == [Row("fit", "ms", [1.0, 6.0], "nanoGPT", [0.5, 2.0]), Row("nanoGPT", "ms", [2.0, 3.0])]


def test_the_table_shows_medians_and_ranges():
    rows = [Row("fit", "ms", [1.0, 2.0, 1234.5], "nanoGPT", [0.5, 0.25, 2.0]), not_measured("other", "not here")]
    assert table({"step": rows}).splitlines()[2:] == [
        "| step | fit | ms | 2 | 1 to 1,234 | 0.5 | 0.25 to 2 | nanoGPT |",
        "| step | other | not measured: not here |  |  |  |  |  |",
    ]


def test_each_step_of_an_iterator_is_timed():
    first, second = timed_ms(time.sleep(seconds) for seconds in (0.001, 0.03))
    assert first >= 1
    assert second >= 30


def test_step_time_excludes_warm_up_and_evaluations():
    assert steps_ms([1.0, 1.5, 1.75]) == [500, 250]
    assert steady_ms([9.0] * WARMUP + [9.0, 1.0, 9.0, 2.0, 9.0, 3.0], eval_interval=2) == 2


def test_a_step_of_the_recipe_is_four_gflop():
    network = GPT(GPTConfig(vocab_size=65, block_size=64, n_layer=4, n_head=4, n_embd=128))
    assert step_gflop(network, batch_size=12) == pytest.approx(768 * (6 * 795_904 + 12 * 4 * 128 * 64) / 1e9)


def test_a_step_is_compared_with_the_matmul_rate_in_its_own_precision():
    measured = {
        "matrix products, float32": [{"square_gflop_per_s": 100.0}],
        "matrix products, bf16": [{"square_gflop_per_s": 400.0}],
        "bare loop, float32": [{"step_ms": 80.0, "step_gflop": 4.0}],
        "fit, bf16": [{"step_ms": 20.0}],
    }
    add_shares(measured)
    shares = {name: rounds[0].get("share_of_square_rate") for name, rounds in measured.items()}
    assert list(shares.values()) == [None, None, 0.5, 0.5]


def test_compiling_breaks_even_when_its_start_up_time_is_saved():
    eager, compiled = {"step_ms": 30.0, "start_s": 3.0}, {"step_ms": 20.0, "start_s": 23.0}
    assert break_even("compiled", compiled, eager).values == [2000]
    assert break_even("compiled", eager, compiled).values == []
    assert break_even("compiled", compiled | {"start_s": 2.0}, eager).values == [0]  # never below 0


def test_a_text_grows_by_repetition(tmp_path):
    repeat(Path("verse.txt"), tmp_path / "longer.txt", 3000)
    verse = Path("verse.txt").read_text(encoding="utf-8")
    assert (tmp_path / "longer.txt").read_text(encoding="utf-8") == verse * (3000 // len(verse) + 1)


def test_step_times_are_read_from_nanogpts_log(tmp_path, nanogpt):
    bench = Bench(tmp_path, Path("verse.txt"), nanogpt, QUICK)
    assert nanogpt_train(bench, steps=20, eval_interval=4)["step_ms"] == 25
    assert nanogpt_base_step_ms(bench) == 25


def test_an_error_contains_the_output_of_the_failed_command(tmp_path):
    bench = Bench(tmp_path, Path("absent.txt"), None, QUICK)
    with pytest.raises(RuntimeError, match=r"failed with exit code 3:\s+at a terminal: True"):
        run(bench, [sys.executable, "-c", "import sys; print('at a terminal:', sys.stdout.isatty()); sys.exit(3)"])


def loss(change: str) -> float:
    """Returns the exact loss of a short run of the better recipe with one ingredient changed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PL_GLOBAL_SEED", "0")
        for module, name in ((modern, "apply_rope"), (modern, "EMBEDDING_WIDTH"), (muon, "POLYNOMIALS")):
            patch.setattr(module, name, getattr(module, name))  # restored at the end, as changes overwrite them
        return measure("verse.txt", "shakespeare_char_better", change, seed=0, steps=WARMUP + 2)["val_loss"]


@pytest.mark.slow
def test_every_changed_recipe_learns_and_has_its_own_loss():
    losses = [loss(change) for change in CHANGES]
    assert max(losses) < math.log(21)
    assert len(set(losses)) == len(CHANGES)


@pytest.fixture
def measured(tmp_path, monkeypatch, capsys):
    """Runs the command at small sizes, the processes of this package forked; returns its report."""

    def forked(bench, command, *args, **kwargs):
        if command[1] != "-m":
            return run(bench, command, *args, **kwargs)
        small = ["--model.n_layer", "1"] if "fit" in command else []
        start_s = time.perf_counter()
        monkeypatch.chdir(bench.work)
        caches = {"XDG_CACHE_HOME": str(bench.work / "cache"), "TORCHINDUCTOR_CACHE_DIR": str(bench.work / "inductor")}
        result = Python(*command[1:], *small, **caches).result()
        assert result.code == 0, result.err
        return time.perf_counter() - start_s, result.out + result.err

    def measured(*options: str) -> dict:
        monkeypatch.setattr(sys, "argv", ["benchmarks", "--quick", "--out", str(tmp_path / "figures.json"), *options])
        main()
        report = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))
        printed = [line.split(" | ")[0].removeprefix("| ") for line in capsys.readouterr().out.splitlines()]
        assert sum(name in report["sections"] for name in printed) == sum(map(len, report["sections"].values()))
        return report

    for module in (contenders, ladder, sampling):
        monkeypatch.setattr(module, "run", forked)
    for module in (compilation, ladder):
        monkeypatch.setattr(module, "precisions", lambda: {"float32": "32-true"})
    return measured


@pytest.mark.slow
def test_every_section_is_measured(measured, nanogpt, tmp_path):
    report = measured("--nanogpt", str(nanogpt), "--text", "verse.txt")
    against = {name: {row["against"] for row in rows} for name, rows in report["sections"].items()}
    assert against.keys() == SECTIONS.keys()
    assert "nanoGPT" in against["step"] & against["process"]
    assert against["ablation"] == {"nothing, fast", "nothing, better", "nothing, best"}
    assert {"nanoGPT's sample.py", "nanoGPT's loop, block 256"} <= against["sampling"]
    assert not [row for row in report["sections"]["growth"] if not row["values"]]
    rungs = ladder_picture.ladder(ladder_picture.rows_of([report]))
    assert [*rungs] == [ladder.NANOGPT, ladder.NANOGPT_BASE, *(f"{recipe}, float32" for recipe in ladder.RUNGS)]
    assert (tmp_path / "figures.png").exists()


LADDER = [
    Row("nanoGPT's CPU recipe", "process_s", [90.0, 110.0, 100.0]),
    Row("nanoGPT's CPU recipe", "val_loss", [1.8982]),
    Row("fast, bf16", "process_s", [7.0, 8.0]),
    Row("fast, bf16", "val_loss", [1.85, 1.87]),
    Row("fast, bf16", "train_loss", [1.8, 1.9]),
    Row("nanoGPT's base recipe, computed", "process_s", [14_000.0]),
    Row("nanoGPT's base recipe, computed", "val_loss", [1.4697]),
]


def test_the_ladder_shows_the_spread_of_the_seeds():
    assert ladder_picture.table(ladder_picture.ladder(LADDER)).splitlines()[2:] == [
        "| nanoGPT's CPU recipe | 1 | 1.7 min | 1.000 | 1.898 |  |  |  |",
        "| fast, bf16 | 2 | 7.5 s | 0.075 | 1.860 | 1.888 | 1.870 | 1.850 |",
        "| nanoGPT's base recipe, computed | 1 | 3.9 h | 140.000 | 1.470 |  |  |  |",
    ]
    assert "| 7.5 s |  | 1.860 |" in ladder_picture.table(ladder_picture.ladder(LADDER[2:5]))  # without nanoGPT


def test_the_ladder_is_drawn_from_the_files_of_several_machines(tmp_path):
    pytest.importorskip("matplotlib")
    sections = {"nanogpt": LADDER[:2], "shakespeare_char_fast": LADDER[2:5], "step": [Row("fit", "step_ms", [1.0])]}
    reports = [{"sections": {name: [asdict(row) for row in rows]}} for name, rows in sections.items()]
    assert ladder_picture.rows_of(reports) == LADDER[:5]
    ladder_picture.draw(ladder_picture.ladder(LADDER), tmp_path / "ladder.png")
    assert (tmp_path / "ladder.png").read_bytes().startswith(b"\x89PNG")


def test_the_readme_shows_the_ladder_as_it_was_measured():
    results = sorted((ROOT / "benchmarks/results").glob("*-ladder*.json"))
    rows = ladder_picture.rows_of(json.loads(path.read_text(encoding="utf-8")) for path in results)
    assert ladder_picture.table(ladder_picture.ladder(rows)) in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_without_nanogpt_the_rest_is_measured(measured):
    report = measured("--only", "process,sampling")
    assert {row["against"] for rows in report["sections"].values() for row in rows} == {""}
