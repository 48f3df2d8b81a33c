"""Atomic writes: by several writers at once, interrupted, and killed."""

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from support.platforms import posix

from chargpt_lightning.utils import atomic
from chargpt_lightning.utils.atomic import make_directory_atomically, open_atomically, remove_parts, write_atomically
from chargpt_lightning.utils.run_dir import lock_directory
from chargpt_lightning.utils.signals import Stopped

KILLED = """
import os, signal, sys
from pathlib import Path
from atomic import open_atomically  # without the package, whose import takes seconds
with open_atomically(Path(sys.argv[1])) as file:
    file.write(b"half")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""
PACKAGE = Path(atomic.__file__).parent


@pytest.fixture
def place() -> Path:
    """A file of its own in a directory of its own."""
    directory = Path("place")
    directory.mkdir()
    (directory / "file").write_bytes(b"before")
    return directory / "file"


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_of_two_writers_at_once_the_last_to_finish_wins(place):
    with open_atomically(place) as outer:
        outer.write(b"the longer one, ")
        with open_atomically(place) as inner:
            inner.write(b"the other")
        assert place.read_bytes() == b"the other"
        outer.write(b"in two pieces")
    assert place.read_bytes() == b"the longer one, in two pieces"
    assert names(place.parent) == ["file"]


def test_a_writer_that_fails_does_not_affect_another(place):
    with open_atomically(place) as outer:
        outer.write(b"after")
        with pytest.raises(ZeroDivisionError), open_atomically(place):
            raise ZeroDivisionError
    assert place.read_bytes() == b"after"


def test_many_writers_at_once_leave_the_content_of_one(place):
    contents, failures = [bytes([number]) * 5000 for number in range(8)], []

    def write(content: bytes) -> None:
        try:
            for _ in range(20):
                write_atomically(place, content)
        except OSError as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if sys.platform != "win32":  # where a file that is being replaced cannot be replaced
        assert failures == []
    assert place.read_bytes() in contents
    assert names(place.parent) == ["file"]


@pytest.mark.parametrize("stop", [ZeroDivisionError(), OSError(28, "full"), KeyboardInterrupt(), Stopped(143)])
def test_an_interrupted_writer_leaves_the_old_content_and_no_other_file(place, stop):
    def write() -> None:
        with open_atomically(place) as file:
            file.write(b"half")
            raise stop

    with pytest.raises(type(stop)):
        write()
    assert place.read_bytes() == b"before"
    assert names(place.parent) == ["file"]


@posix
@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_a_file_has_the_permissions_of_any_new_file(place, umask):
    before = os.umask(umask)
    try:
        write_atomically(place, b"after")
    finally:
        os.umask(before)
    assert stat.S_IMODE(place.stat().st_mode) == 0o666 & ~umask


@pytest.fixture
def synced(monkeypatch) -> list[str]:
    """The names of what was synced: "file", or for a directory the names in it at that moment."""
    synced, fsync = [], os.fsync

    def recorded(descriptor: int) -> None:
        is_directory = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        synced.append(", ".join(sorted(os.listdir(descriptor))) if is_directory else "file")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", recorded)
    return synced


@posix
def test_the_directory_is_synced_once_the_file_is_in_place(place, synced):
    place.unlink()
    write_atomically(place, b"after")
    assert synced == ["file", "file"], "the file, then the directory with the file under its final name"


@posix
def test_a_file_system_that_cannot_sync_directories_is_accepted(place, monkeypatch):
    fsync = os.fsync

    def refuse_directories(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(22, "Invalid argument")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse_directories)
    write_atomically(place, b"after")
    assert place.read_bytes() == b"after"


@posix
def test_part_files_of_killed_writers_are_removed_when_the_run_is_locked(place):
    checkpoints = place.parent / "checkpoints"
    checkpoints.mkdir()
    for path in map(Path.absolute, (place, checkpoints / "last.ckpt", checkpoints / "last.ckpt")):
        subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False, cwd=PACKAGE)
    (checkpoints / "best.ckpt.part").write_bytes(b"an earlier version's")
    assert (len(names(place.parent)), len(names(checkpoints))) == (3, 3)
    lock = lock_directory(place.parent)
    assert set(names(place.parent)) == {".lock", "checkpoints", "file"}
    assert names(checkpoints) == []
    assert place.read_bytes() == b"before"
    lock.release()


def test_only_part_files_are_removed(place):
    for name in ("a.part", "b.part.txt", "part"):
        (place.parent / name).touch()
    remove_parts(place.parent)
    assert names(place.parent) == ["b.part.txt", "file", "part"]
    remove_parts(Path("nowhere"))


@pytest.mark.parametrize("exists", [False, True])
def test_of_two_that_fill_a_directory_at_once_one_is_refused(exists):
    if exists:
        Path("out").mkdir()
    before = set(names(Path()))

    def fill() -> None:
        with make_directory_atomically(Path("out")) as outer:
            (outer / "a").write_bytes(b"outer")
            (outer / "b").write_bytes(b"outer")
            with make_directory_atomically(Path("out")) as inner:
                (inner / "a").write_bytes(b"inner")

    with pytest.raises(OSError, match="not empty"):
        fill()
    assert names(Path("out")) == ["a"]
    assert Path("out/a").read_bytes() == b"inner"
    assert set(names(Path())) == before | {"out"}


def test_of_two_that_move_files_at_once_one_is_refused(monkeypatch):
    """The other comes when the first has moved one of two files."""
    replace, others = Path.replace, []

    def replaced(path: Path, target: Path) -> Path:
        moved = replace(path, target)
        if not others:
            others.append(True)
            with pytest.raises(FileExistsError), make_directory_atomically(Path("out")) as other:
                (other / "c").write_bytes(b"other")
        return moved

    monkeypatch.setattr(atomic.Path, "replace", replaced)
    with make_directory_atomically(Path("out")) as directory:
        for name in ("a", "b"):
            (directory / name).write_bytes(b"one")
    assert names(Path("out")) == ["a", "b"]


@posix
def test_files_and_directories_of_an_export_are_synced(synced):
    with make_directory_atomically(Path("out")) as directory:
        (directory / "a").write_bytes(b"x")
    assert synced[:2] == ["file", "a"], "the file, then the directory that has it"
    assert "out" in synced[2].split(", ")
