"""Readers of files that a user names, each reading mutations of a valid file; fuzzers choose the mutations."""

import json
import os
import pickle
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
import yaml

from chargpt_lightning import CharGPT, CharVocab
from chargpt_lightning.__main__ import main
from chargpt_lightning.checkpoints.convert import read_any_checkpoint
from chargpt_lightning.checkpoints.io import facts_of
from chargpt_lightning.cli.nanogpt_file import replace_files
from chargpt_lightning.data.cache import text_facts, text_ids
from chargpt_lightning.data.corpus import cache_directory, load_corpus
from chargpt_lightning.data.nanogpt import read_alphabet
from chargpt_lightning.loggers.csv_logger import History
from chargpt_lightning.utils.errors import ConfigError
from chargpt_lightning.utils.plotting import draw, save_figure
from support.command_line import TINY, VERSE
from support.mutations import OTHERS, PLAIN, Pick, damaged, mutated

LIMIT_S = 10.0  # for one file
LAST = Path("runs/version_0/checkpoints/last.ckpt")
MODERN = Path("modern/version_0/checkpoints/last.ckpt")
OTHER_RUN = ["--trainer.default_root_dir", "modern", "--model.architecture", "modern", "--model.optimizer", "muon"]


def make_valid_files(run: Callable[..., object]) -> None:
    """Trains and exports the valid files, with a function that runs the command line."""
    run(*TINY)
    run(*TINY, *OTHER_RUN)
    for name, directory in (("nanogpt", "nanogpt"), ("hf", "hf")):
        run("export", "--format", name, "--out", directory, "--ckpt_path", str(LAST))


def saved(pick: Pick) -> Path:
    """Writes a mutated checkpoint beside the valid one."""
    valid = (LAST, MODERN, Path("nanogpt/ckpt.pt"))[pick(3)]
    path = valid.with_name("mutated.ckpt")
    torch.save(mutated(torch.load(valid, weights_only=True), pick, (*PLAIN, *OTHERS)), path)
    return path


def checkpoint(pick: Pick) -> None:
    path = saved(pick)
    content, _ = read_any_checkpoint(path)
    facts_of(content, path)
    network = CharGPT.load_from_checkpoint(path)
    network.sample(network.vocab.alphabet[0], max_new_tokens=2)


def command(pick: Pick) -> None:
    path = saved(pick)
    resume = ["fit", "--ckpt_path", str(path), "--trainer.max_steps", "7", "--trainer.default_root_dir", "resumed"]
    sample = ["predict", "--ckpt_path", str(path), "--num_samples=1", "--max_new_tokens=2"]
    export = ["export", "--format", "nanogpt", "--out", "out", "--ckpt_path", str(path)]
    called([resume, ["validate", "--ckpt_path", str(path)], sample, export][pick(4)])


def called(args: list[str]) -> None:
    """Runs a command, which must succeed or be refused."""
    try:
        with suppress(SystemExit):
            main([*args])
    finally:
        os.environ.pop("PL_GLOBAL_SEED", None)
        shutil.rmtree("out", ignore_errors=True)


def meta(pick: Pick) -> None:
    valid = Path("nanogpt/meta.pkl").read_bytes()
    values = tuple(value for value in (*PLAIN, *OTHERS) if not isinstance(value, torch.Tensor))
    content = pickle.dumps(mutated(pickle.loads(valid), pick, values), pick(6)) if pick(4) else damaged(valid, pick)
    Path("meta.pkl").write_bytes(content)
    read_alphabet(Path("meta.pkl"))


def hugging_face(pick: Pick) -> None:
    shutil.copytree("hf", "mutated_hf", dirs_exist_ok=True)
    name = ("config.json", "tokenizer.json", "model.safetensors")[pick(3)]
    valid = Path("hf", name).read_bytes()
    size = 8 + int.from_bytes(valid[:8], "little") if name == "model.safetensors" else len(valid)
    start = 8 if name == "model.safetensors" else 0
    new = json.dumps(mutated(json.loads(valid[start:size]), pick)).encode()
    new = len(new).to_bytes(8, "little") + new + valid[size:] if start else new
    Path("mutated_hf", name).write_bytes(new if pick(4) else damaged(valid, pick))
    CharGPT.load_from_checkpoint("mutated_hf")


def settings(pick: Pick) -> None:
    valid = (LAST.parent.parent / "config.yaml").read_bytes()
    raw = damaged(valid, pick)
    if pick(3):
        raw = yaml.safe_dump(mutated(yaml.safe_load(valid), pick), allow_unicode=True).encode("utf-8", "surrogatepass")
    shutil.copytree(LAST.parent.parent, "edited/version_0", dirs_exist_ok=True)
    (Path("edited/version_0/config.yaml") if (resumes := pick(2)) else Path("edited.yaml")).write_bytes(raw)
    given = ["--ckpt_path", "edited/version_0/checkpoints/last.ckpt"] if resumes else ["--config", "edited.yaml"]
    called(["fit", *given, *TINY[1:], "--trainer.max_steps", "1", "--trainer.default_root_dir", "edited"])


def nanogpt_file(pick: Pick) -> None:
    lines = (b"n_layer = 5 * 8", b"out_dir = 'out'  # here", b"min_lr = -1e-4 / (3 - 2)", b"compile = False")
    Path("mutated.py").write_bytes(damaged(b"\n".join(lines), pick))
    replace_files(["fit", "mutated.py"])


def metrics(pick: Pick) -> None:
    valid = (LAST.parent.parent / "metrics.csv").read_bytes()
    rows = mutated([line.split(",") for line in valid.decode().splitlines()], pick)
    lines = (
        [",".join(map(str, row)) if isinstance(row, list) else str(row) for row in rows]
        if isinstance(rows, list)
        else []
    )
    Path("table").mkdir(exist_ok=True)
    raw = "\n".join(lines).encode("utf-8", "surrogatepass") if pick(3) else damaged(valid, pick)
    Path("table/metrics.csv").write_bytes(raw)
    if pick(2):
        save_figure(draw([Path("table")]), Path("curves.png"))
    history = History(Path(), Path("table"))
    history.continue_after(pick(9), valid.decode().splitlines()[0].split(",") if pick(2) else [])
    history.log_metrics({"step": 1, "val/loss": 2.0})
    history.save()


def cache(pick: Pick) -> None:
    corpus = load_corpus("verse.txt")
    files = sorted((cache_directory() / "texts").glob("*.*.*"))
    valid = {file: file.read_bytes() for file in files}
    facts, (json_file,) = text_facts(corpus), (file for file in files if file.suffix == ".json")
    vocab = CharVocab(facts.alphabet)
    if pick(2):
        json_file.write_bytes(json.dumps(mutated(json.loads(valid[json_file]), pick)).encode())
    else:
        file = files[pick(len(files))]
        file.write_bytes(damaged(valid[file], pick))
    assert text_facts(corpus) == facts
    assert vocab.decode(torch.from_numpy(np.fromfile(text_ids(corpus, facts, vocab), vocab.dtype))) == VERSE * 20
    for file, content in valid.items():  # extra keys are ignored, so damage may have stayed
        file.write_bytes(content)


READERS = {
    reader.__name__: reader
    for reader in (checkpoint, command, meta, hugging_face, settings, nanogpt_file, metrics, cache)
}


def read(reader: Callable[[Pick], None], pick: Pick) -> None:
    """Reads one mutated file; raises an error unless it is accepted or refused in time."""
    start_s = time.perf_counter()
    with suppress(ConfigError):
        reader(pick)
    assert time.perf_counter() - start_s < LIMIT_S
