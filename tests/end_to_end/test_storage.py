"""What disks and other people do to files: full, unwritable, shared, damaged, hostile."""

import codecs
import os
import pickle
import random
import re
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from copy import copy
from pathlib import Path

import pytest
import torch
from support.command_line import TINY, exact_rows, refused
from support.platforms import full_disk, posix

from chargpt_lightning.checkpoints.io import read_checkpoint
from chargpt_lightning.utils.errors import ConfigError
from chargpt_lightning.utils.run_dir import claim_directory, lock_directory

NOBODY = 65534


def checkpoints() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path("runs/version_0/checkpoints").iterdir()}


@contextmanager
def unwritable() -> Iterator[None]:
    """The checkpoints' directory becomes unwritable, for root too: it goes on as somebody else."""
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
def test_a_save_that_fails_is_one_line_and_leaves_the_checkpoints_as_they_were(run, during, fault, reason):
    kept = {}
    with ExitStack() as stack:
        during(3, happens=lambda: kept.update(checkpoints()) or stack.enter_context(fault()))
        result = run(*TINY, "--trainer.max_steps", "8")
    assert result.code == 1
    assert re.fullmatch(rf"error: .*{reason}: 'runs/version_0/.*'", result.err.splitlines()[-1])
    assert "Traceback" not in result.err
    assert checkpoints() == kept
    assert run("fit", "--ckpt_path", "last").code == 0, "it goes on when the fault is gone"


def test_two_runs_that_start_at_once_get_a_directory_each():
    claimed: list[Path] = []
    threads = [threading.Thread(target=lambda: claimed.append(claim_directory(Path("runs")))) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(claimed)) == 32


def test_two_runs_at_once_do_not_touch_each_others_files(run):
    run(*TINY)
    command = [sys.executable, "-m", "chargpt_lightning", *TINY]
    both = [subprocess.Popen(command, stderr=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait(timeout=120) for process in both] == [0, 0]
    first, *others = (exact_rows(path) for path in Path("runs").glob("version_*"))
    assert others == [first, first]


def test_nothing_goes_on_from_a_run_that_another_process_trains(run, tiny_run):
    lock = lock_directory(tiny_run)
    more = ["fit", "--ckpt_path", "last", "--trainer.max_steps", "6"]
    before = (tiny_run / "metrics.csv").read_text(encoding="utf-8")
    result = run(*more)
    message = "error: ckpt_path (runs/version_0) must not belong to a run that another process is training\n"
    assert (result.code, result.err.endswith(message)) == (1, True)
    assert (tiny_run / "metrics.csv").read_text(encoding="utf-8") == before
    lock.release()
    assert run(*more).code == 0


def test_a_run_that_fails_before_it_writes_leaves_no_directory(run, monkeypatch):
    monkeypatch.setattr("chargpt_lightning.trainer.resume.SaveConfig.save_config", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(*TINY)
    assert list(Path("runs").iterdir()) == []


def test_what_a_crash_left_half_written_is_not_taken_for_whole(run, tiny_run):
    (tiny_run / "checkpoints/last.ckpt.part").write_bytes(b"half of a check")
    with (tiny_run / "metrics.csv").open("a", encoding="utf-8") as file:
        file.write("0.1,5,3.04,,,,\n0.1,6,3.")
    assert run("fit", "--ckpt_path", "last", "--trainer.max_steps", "8").code == 0
    run(*TINY, "--trainer.max_steps", "5")
    run("fit", "--ckpt_path", "runs/version_1/checkpoints/last.ckpt", "--trainer.max_steps", "8")
    assert exact_rows(Path("runs/version_0")) == exact_rows(Path("runs/version_1"))
    assert set(checkpoints()) == {"best.ckpt", "last.ckpt"}


class Payload:
    """Leaves a trace if it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("executed",)


@pytest.mark.parametrize("protocol", [0, 2, 5])
@pytest.mark.parametrize("subcommand", ["fit", "validate", "predict"])
def test_no_checkpoint_runs_code(run, tiny_run, subcommand, protocol):
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
    """Makes memory of a few bytes."""

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
def test_no_checkpoint_takes_more_memory_than_the_file(run, tiny_run, subcommand, inflate):
    last = tiny_run / "checkpoints/last.ckpt"
    inflate(last)
    message = refused(run, subcommand, "--ckpt_path", "last")
    assert message.endswith("must be an intact checkpoint file that contains no code")


@pytest.mark.parametrize("protocol", [0, 5])
def test_no_text_runs_code(run, protocol):
    Path("verse.txt").write_bytes(pickle.dumps([Payload()] * 200, protocol))
    result = run(*TINY)
    assert result.code == (0 if protocol == 0 else 1), "protocol 0 is a text, if a strange one"
    assert not Path("executed").exists()


def test_no_bit_of_a_checkpoint_can_change_unnoticed(tiny_run):
    """Besides bits at random all of the archive's directory, where one flag makes torch read zeros for a weight."""
    path = tiny_run / "checkpoints/last.ckpt"
    whole, flipped = path.read_bytes(), Path("flipped.ckpt")
    right = torch.load(path, weights_only=True)
    directory = whole.index(b"PK\x01\x02")
    places = [*random.Random(0).choices(range(len(whole)), k=300), *range(directory, directory + 200)]
    for place in places:
        for bit in (0x10, random.Random(place).choice((1, 2, 4, 8, 32, 64, 128))):
            damaged = bytearray(whole)
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


@pytest.mark.parametrize(
    ("content", "characters"),
    [
        (b"\x00a\nb" * 100, "\x00\nab"),
        (b"\xef\xbb\xbfab\n" * 1 + b"ab\n" * 100, "\nab"),
        (b"ab\r\nc\rd\n" * 50, "\nabcd"),
        ("".join(map(chr, range(0x4E00, 0x4E00 + 10_000))).encode(), "".join(map(chr, range(0x4E00, 0x4E00 + 10_000)))),
    ],
    ids=["NUL", "byte order mark", "CRLF and CR", "10,000 characters"],
)
def test_a_strange_text_works_as_documented(run, content, characters):
    Path("verse.txt").write_bytes(content)
    assert run(*TINY).code == 0
    checkpoint = torch.load("runs/version_0/checkpoints/last.ckpt", weights_only=True)
    assert checkpoint["hyper_parameters"]["alphabet"] == characters
    assert run("fit", "--ckpt_path", "last", "--trainer.max_steps", "6").code == 0
    assert run("validate").code == 0
    sampled = run("predict", f"--start={characters[-1]}", "--num_samples=1", "--max_new_tokens=5")
    assert (sampled.code, len(sampled.out)) == (0, 7)


@pytest.mark.parametrize(
    ("content", "byte"), [("ab\ud800".encode("utf-8", "surrogatepass") * 99, 2), ("\ufeffab".encode("utf-16"), 0)]
)
def test_what_is_no_utf_8_is_refused_by_its_first_byte(run, content, byte):
    Path("verse.txt").write_bytes(content)
    assert refused(run, *TINY) == f"data.text (verse.txt) must be UTF-8, but byte {byte} is not"
