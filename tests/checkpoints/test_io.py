"""Checkpoints are written atomically, read without running code in them, and refused if they are damaged."""

import codecs
import os
import pickle
import random
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from copy import copy
from pathlib import Path

import pytest
import torch
from support.command_line import TINY, refused
from support.hostile import Payload
from support.platforms import full_disk, posix

from chargpt_lightning import CharGPT
from chargpt_lightning.checkpoints.io import read_checkpoint
from chargpt_lightning.utils.errors import ConfigError

NOBODY = 65534


LAST = Path("runs/version_0/checkpoints/last.ckpt")


def test_a_checkpoint_contains_the_alphabet_and_the_facts_of_its_text(tiny_run):
    checkpoint = torch.load(tiny_run / "checkpoints/best.ckpt", weights_only=True)
    text = Path("verse.txt").read_text(encoding="utf-8")
    assert checkpoint["hyper_parameters"]["alphabet"] == "".join(sorted(set(text)))
    assert checkpoint["CharDataModule"] | {"sha256": ""} == {
        "text": str(Path("verse.txt").absolute()),
        "characters": len(text),
        "train_characters": 1206,
        "alphabet_size": len(set(text)),
        "sha256": "",
    }
    assert len(checkpoint["CharDataModule"]["sha256"]) == 64


@pytest.mark.parametrize("damage", ["cut off", "empty", "text", "foreign", "wrong alphabet", "a tensor", "code"])
def test_a_damaged_or_foreign_checkpoint_is_refused(run, tiny_run, damage):
    content = (tiny_run / "checkpoints/best.ckpt").read_bytes()
    path = Path("damaged.ckpt")
    if damage == "foreign":
        torch.save({"model": {}, "model_args": {"n_layer": 1}}, path)
    elif damage in ("wrong alphabet", "a tensor"):
        checkpoint = torch.load(tiny_run / "checkpoints/best.ckpt", weights_only=True)
        other = {"alphabet": 5} if damage == "wrong alphabet" else {"min_lr": torch.zeros(1)}
        torch.save(checkpoint | {"hyper_parameters": checkpoint["hyper_parameters"] | other}, path)
    elif damage == "code":
        torch.save({"model": torch.nn.Linear(1, 1)}, path)
    else:
        path.write_bytes({"cut off": content[: len(content) // 2], "empty": b"", "text": b"hello"}[damage])
    expected = (
        "ckpt_path (damaged.ckpt) must be a checkpoint of chargpt_lightning, nanoGPT or Hugging Face"
        if damage in ("foreign", "wrong alphabet", "a tensor")
        else "ckpt_path (damaged.ckpt) must be an intact checkpoint file that contains no code"
    )
    for subcommand in ("validate", "predict"):
        assert refused(run, subcommand, "--ckpt_path", "damaged.ckpt") == expected


def test_a_checkpoint_that_asks_for_a_larger_network_than_its_weights_is_refused(run, tiny_run):
    checkpoint = torch.load(LAST, weights_only=True)
    checkpoint["hyper_parameters"]["n_layer"] = 10**6
    torch.save(checkpoint, LAST)
    assert "must be a checkpoint of chargpt_lightning, nanoGPT or Hugging Face" in refused(
        run, "predict", "--ckpt_path", "last"
    )


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ({"n_embd": 2**20}, "must contain the weights of its own network, but: gpt."),
        ({"block_size": 2**40}, "must contain the weights of its own network, but: gpt."),
        ({"n_embd": 2**62}, "must contain the weights of its own network, but: "),
        ({"n_head": 3}, "must contain the weights of its own network, but: n_embd (8) must be divisible by n_head (3)"),
        ({"n_gram": 10**6}, "must contain the weights of its own network, but: n_gram (1000000) must be at most 32"),
        ({"n_gram": 2}, "must contain the weights of its own network, but: n_gram (2) must be 1"),
        ({"architecture": "x"}, "must contain the weights of its own network, but: architecture (x) must be one of"),
        ({"dropout": "x"}, "must be a checkpoint of chargpt_lightning, nanoGPT or Hugging Face"),
        ({"min_lr": float("nan")}, "must be a checkpoint of chargpt_lightning, nanoGPT or Hugging Face"),
        ({"optimizer": 1}, "must be a checkpoint of chargpt_lightning, nanoGPT or Hugging Face"),
    ],
)
def test_a_checkpoint_whose_settings_are_not_those_of_its_weights_is_refused(tiny_run, edit, message):
    checkpoint = torch.load(LAST, weights_only=True)
    checkpoint["hyper_parameters"] |= edit
    torch.save(checkpoint, LAST)
    for read in (read_checkpoint, CharGPT.load_from_checkpoint):
        with pytest.raises(ConfigError, match=re.escape(f"ckpt_path ({LAST}) {message}")):
            read(LAST)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(run, tiny_run, value):
    """A network of NaN would sample the first character of its alphabet again and again."""
    checkpoint = torch.load(LAST, weights_only=True)
    checkpoint["state_dict"]["gpt.transformer.ln_f.weight"][3] = value
    torch.save(checkpoint, LAST)
    for command in ("fit", "validate", "predict"):
        message = "must contain only finite weights, but gpt.transformer.ln_f.weight has others"
        assert refused(run, command, "--ckpt_path", "last") == f"ckpt_path ({LAST.as_posix()}) {message}"


@pytest.mark.parametrize("weight", [5, None, torch.zeros(8, dtype=torch.int64), torch.zeros(8, dtype=torch.complex64)])
def test_weights_that_are_no_weights_are_refused(tiny_run, weight):
    checkpoint = torch.load(LAST, weights_only=True)
    checkpoint["state_dict"]["gpt.transformer.ln_f.weight"] = weight
    torch.save(checkpoint, LAST)
    with pytest.raises(ConfigError, match="must be a checkpoint of chargpt_lightning, nanoGPT or Hugging Face"):
        read_checkpoint(LAST)


def test_what_lightning_alone_reads_from_a_checkpoint_need_not_be_intact_to_load_a_network(tiny_run):
    checkpoint = torch.load(LAST, weights_only=True)
    torch.save(checkpoint | {"hparams_name": torch.zeros(3)}, LAST)
    assert CharGPT.load_from_checkpoint(LAST).hparams["n_embd"] == 8


def checkpoints() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path("runs/version_0/checkpoints").iterdir()}


@contextmanager
def unwritable() -> Iterator[None]:
    """Makes the checkpoints' directory unwritable; root continues as another user."""
    directory, user = Path("runs/version_0/checkpoints"), os.geteuid()
    directory.chmod(0o555)
    if user == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)
        directory.chmod(0o755)


@posix
@pytest.mark.parametrize(("fault", "reason"), [(full_disk, "File too large"), (unwritable, "Permission denied")])
def test_a_save_that_fails_leaves_the_checkpoints_as_they_were(run, during, fault, reason):
    kept = {}
    with ExitStack() as stack:
        during(3, happens=lambda: kept.update(checkpoints()) or stack.enter_context(fault()))
        result = run(*TINY, "--trainer.max_steps", "8")
    assert result.code == 1
    assert re.fullmatch(rf"error: .*{reason}: 'runs/version_0/.*'", result.err.splitlines()[-1])
    assert "Traceback" not in result.err
    assert checkpoints() == kept
    assert run("fit", "--ckpt_path", "last").code == 0, "it must resume when the fault is gone"


@pytest.mark.parametrize("protocol", [0, 2, 5])
@pytest.mark.parametrize("subcommand", ["fit", "validate", "predict"])
def test_code_in_a_checkpoint_is_not_run(run, tiny_run, subcommand, protocol):
    last, best = tiny_run / "checkpoints/last.ckpt", tiny_run / "checkpoints/best.ckpt"
    checkpoint = torch.load(last, weights_only=True)
    for payload in (checkpoint | {"callbacks": Payload()}, Payload()):
        torch.save(payload, last, pickle_protocol=max(protocol, 2))
        best.write_bytes(last.read_bytes())
        bare = Path("bare.ckpt")
        bare.write_bytes(pickle.dumps(payload if protocol == 5 else Payload(), protocol))
        for path in ("last", str(last), str(bare)):
            message = refused(run, subcommand, "--ckpt_path", path)
            assert message.endswith("must be an intact checkpoint file that contains no code")
    assert not Path("executed").exists()


def compressed(last: Path) -> None:
    with zipfile.ZipFile(last) as archive:
        content = {member.filename: archive.read(member) for member in archive.infolist()}
    with zipfile.ZipFile(last, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, part in content.items():
            archive.writestr(name, part)


def named_many_times(last: Path) -> None:
    """Lists the largest part of the archive a thousand times under other names, at the same place in the file."""
    with zipfile.ZipFile(last, "a") as archive:
        largest = max(archive.infolist(), key=lambda member: member.file_size)
        for number in range(1000):
            again = copy(largest)
            again.filename = f"{largest.filename}{number}"
            archive.filelist.append(again)
        archive.writestr("archive/more", b"")


class Inflating:
    """Calls a function that allocates far more memory than its arguments take."""

    def __init__(self, make: Callable, *arguments: object):
        self.made = make, arguments

    def __reduce__(self):
        return self.made


def with_a_number_for_bytes(last: Path) -> None:
    torch.save(torch.load(last, weights_only=True) | {"callbacks": Inflating(bytearray, 2**30)}, last)


def with_a_number_for_floats(last: Path) -> None:
    torch.save(torch.load(last, weights_only=True) | {"callbacks": Inflating(torch.FloatTensor, 2**30)}, last)


def with_an_encoding(last: Path) -> None:
    torch.save(torch.load(last, weights_only=True) | {"callbacks": Inflating(codecs.encode, "a", "hex")}, last)


def with_weights_that_are_one_number(last: Path) -> None:
    torch.save(torch.load(last, weights_only=True) | {"callbacks": torch.zeros(1).expand(2**40)}, last)


@pytest.mark.parametrize(
    "inflate",
    [
        *(compressed, named_many_times, with_a_number_for_bytes, with_a_number_for_floats),
        *(with_an_encoding, with_weights_that_are_one_number),
    ],
)
@pytest.mark.parametrize("subcommand", ["fit", "validate", "predict"])
def test_a_checkpoint_that_would_take_more_memory_than_its_file_is_refused(run, tiny_run, subcommand, inflate):
    last = tiny_run / "checkpoints/last.ckpt"
    inflate(last)
    message = refused(run, subcommand, "--ckpt_path", "last")
    assert message.endswith("must be an intact checkpoint file that contains no code")


def test_every_flipped_bit_is_noticed_or_changes_nothing(tiny_run):
    """Random bits, and all of the archive's directory, where one flag makes torch read zeros for a weight."""
    path = tiny_run / "checkpoints/last.ckpt"
    content, flipped = path.read_bytes(), Path("flipped.ckpt")
    right = torch.load(path, weights_only=True)
    directory = content.index(b"PK\x01\x02")
    places = [*random.Random(0).choices(range(len(content)), k=300), *range(directory, directory + 200)]
    for place in places:
        for bit in (0x10, random.Random(place).choice((1, 2, 4, 8, 32, 64, 128))):
            damaged = bytearray(content)
            damaged[place] ^= bit
            flipped.write_bytes(damaged)
            try:
                read_checkpoint(flipped)
            except ConfigError:
                continue
            assert same(torch.load(flipped, weights_only=True), right), (place, bit)


def same(one: object, other: object) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other
