"""A text of several files: which they are, that they are one text, and that a run finds them again."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from support.command_line import TINY, VERSE, exact_rows, refused
from support.nanogpt_folder import prepare
from support.platforms import posix

from chargpt_lightning import CharDataModule
from chargpt_lightning.cli.parser import texts_together
from chargpt_lightning.data import text_files
from chargpt_lightning.data.cache import text_facts
from chargpt_lightning.data.corpus import cache_directory, load_corpus
from chargpt_lightning.utils.errors import ConfigError

WHOLE = VERSE * 20
SHA256 = hashlib.sha256(WHOLE.encode()).hexdigest()
RESUMED = ["fit", "--ckpt_path", "last", "--trainer.max_steps", "6"]


@pytest.fixture
def books():
    """The verse cut in three, in an order that is that of their paths, beside what is no book."""
    Path("books/late").mkdir(parents=True)
    for name, start, end in (("books/1.txt", 0, 500), ("books/2.txt", 500, 501), ("books/late/3.txt", 501, None)):
        Path(name).write_text(WHOLE[start:end], encoding="utf-8")
    Path("books/notes.md").write_text("not this\n", encoding="utf-8")
    Path("books/.hidden.txt").write_text("nor this\n", encoding="utf-8")
    Path("books/folder.txt").mkdir()


def text(source: str | list[str]) -> str:
    return "".join(load_corpus(source).chunks())


def sources(source: str | list[str]) -> list[str]:
    return [part.source for part in load_corpus(source).parts]


def test_files_are_one_text_in_the_order_of_the_list(books):
    assert text(["books/1.txt", "books/2.txt", "books/late/3.txt"]) == WHOLE
    assert text(["books/2.txt", "books/1.txt", "books/2.txt"]) == WHOLE[500] + WHOLE[:501]


def test_a_pattern_takes_files_only_sorted_by_path(books):
    assert sources("books/*.txt") == ["books/1.txt", "books/2.txt"]
    assert sources("books/[2-9].txt") == ["books/2.txt"]
    assert sources("books/**/*.txt") == ["books/1.txt", "books/2.txt", "books/late/3.txt"]
    assert sources("books/**/**/?.txt") == ["books/1.txt", "books/2.txt", "books/late/3.txt"]
    assert sources(str(Path("books/*.txt").absolute())) == [str(Path(f"books/{n}.txt").absolute()) for n in (1, 2)]


@posix
def test_a_link_that_leads_upwards_shows_no_file_twice(books):
    Path("books/above").symlink_to(Path("books").absolute(), target_is_directory=True)
    Path("books/same.txt").symlink_to(Path("books/1.txt").absolute())
    assert sources("books/**/*.txt") == ["books/1.txt", "books/2.txt", "books/late/3.txt"]
    assert text("books/**/*.txt") == WHOLE
    assert text(["books/same.txt", "books/1.txt"]) == 2 * WHOLE[:500]  # a list says how often


@pytest.mark.parametrize("source", ["~nobody-of-that-name/1.txt", "~nobody-of-that-name/*.txt"])
def test_the_home_of_an_unknown_user_is_a_path_without_a_file(source):
    with pytest.raises(ConfigError, match=r"data\.text \(~nobody-of-that-name/"):
        text(source)


def test_patterns_may_stand_in_a_list(books):
    assert sources(["books/late/*.txt", "books/1.txt", "books/*.md"]) == [
        "books/late/3.txt", "books/1.txt", "books/notes.md",
    ]  # fmt: skip


def test_a_file_of_the_very_name_goes_before_those_that_match():
    Path("[a].txt").write_text("this", encoding="utf-8")
    Path("a.txt").write_text("not this", encoding="utf-8")
    assert text("[a].txt") == "this"
    assert text(["[a].txt", "a.txt"]) == "thisnot this"
    assert load_corpus("[a].txt").name == str(Path("[a].txt").absolute())
    Path("[a].txt").unlink()
    assert text("[a].txt") == "not this"


def test_a_list_of_one_is_that_one(books):
    prepare("nano", VERSE)
    for source in ("verse.txt", "books/*.txt", "nano", "plays"):
        one, alone = load_corpus([source]), load_corpus(source)
        assert (one.name, one.label, one.alphabet) == (alone.name, alone.label, alone.alphabet)
        assert list(one.raw_chunks()) == list(alone.raw_chunks())


def test_what_a_pattern_means_does_not_depend_on_the_directory(books, tmp_path, monkeypatch):
    odd = tmp_path / "[x]*"
    odd.mkdir()
    Path("books").rename(odd / "books")
    monkeypatch.chdir(odd)
    names = [load_corpus(source).name for source in ("books/*.txt", ["books/1.txt", "books/late/*"])]
    found = [text(name) for name in names]
    monkeypatch.chdir(tmp_path)
    assert [text(name) for name in names] == found == [WHOLE[:501], WHOLE[:500] + WHOLE[501:]]


def test_the_home_directory_has_its_sign(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home/a.txt").write_text("at home")
    assert text("~/*.txt") == text(["~/a.txt"]) == "at home"


PIECES = st.lists(st.lists(st.sampled_from(["a", "\r", "\n", "\ufeff", "不", "🙂"])), min_size=1)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(pieces=PIECES, size=st.integers(1, 5))
def test_files_are_read_each_by_itself_and_joined_whatever_the_chunks_are(pieces, size):
    paths = [Path(f"{number}.part") for number in range(len(pieces))]
    for path, piece in zip(paths, pieces, strict=True):
        path.write_bytes("".join(piece).encode())
    expected = "".join(path.read_text(encoding="utf-8-sig") for path in paths)
    assume(expected)
    Path("joined.txt").write_bytes(b"\xef\xbb\xbf" + expected.encode())
    shutil.rmtree(cache_directory(), ignore_errors=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_files, "CHUNK_BYTES", size)
        several, one = CharDataModule(list(map(str, paths))), CharDataModule("joined.txt")
        assert several.facts.sha256 == one.facts.sha256 == hashlib.sha256(expected.encode()).hexdigest()
        assert several.facts.characters == len(expected)
        assert several.ids.read_bytes() == one.ids.read_bytes()


def test_texts_of_the_same_bytes_with_other_borders_are_told_apart():
    """What stands at a border decides what it means: a byte order mark, or half a line end."""
    contents = {"a": b"x\r", "b": b"\ny", "c": b"x\r\ny", "empty": b"", "cut": b"x"}
    for name, content in contents.items():
        Path(name).write_bytes(content)
    lists = [["a", "b"], ["c"], ["c", "empty"], ["empty", "c"], ["empty", "a", "b"], ["a", "empty", "b"]]
    assert len({b"".join(load_corpus(one).raw_chunks()) for one in lists}) == len(lists)
    assert [text_facts(load_corpus(one)).characters for one in (*lists, *lists)] == [4, 3, 3, 3, 4, 4] * 2


def test_the_first_nine_tenths_of_the_whole_train(books):
    data = CharDataModule("books/**/*.txt", block_size=8)
    data.setup("fit")
    assert (data.state_dict()["train_characters"], data.state_dict()["characters"]) == (1206, 1340)
    assert data.splits == (range(1206), range(1206, 1340))


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
        (["verse.txt", "none.txt"], "data.text (none.txt) must be a readable file, but: No such file"),
        (["verse.txt", "latin.txt"], "data.text (latin.txt) must be UTF-8, but byte 3 is not"),
        ("*.txt", "data.text (latin.txt) must be UTF-8, but byte 3 is not"),
        (["verse.txt", "/dev/null"], "data.text (/dev/null) must be a regular file, because it is read more than once"),
        (["empty", "empty"], "data.text (empty and 1 more) must not be empty"),
        (
            ["/caf\udce9.txt", "verse.txt"],
            "data.text (/caf\udce9.txt) must be a UTF-8 path, because checkpoints store it",
        ),
    ],
)
def test_what_cannot_serve_is_named(source, message):
    prepare("nano", VERSE)
    Path("empty").touch()
    Path("latin.txt").write_bytes(b"caf\xe9")
    with pytest.raises(ConfigError) as error:
        text(source)
    assert str(error.value).startswith(message)


def test_an_unknown_character_is_named_with_its_place_in_its_file(books, monkeypatch):
    monkeypatch.setattr(text_files, "CHUNK_BYTES", 10)
    Path("books/2.txt").write_text(VERSE + "ü", encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        _ = CharDataModule("books/*.txt", alphabet="".join(sorted(set(VERSE)))).ids
    assert str(error.value).startswith(
        f"data.text ('ü' at position {len(VERSE)} of books/2.txt) must use only the 21 char"
    )


def test_a_text_of_several_files_that_is_too_short_is_called_by_the_first(run):
    Path("a.txt").write_text("a", encoding="utf-8")
    Path("b.txt").write_text("b", encoding="utf-8")
    assert refused(run, *TINY, "--data.text", "a.txt", "b.txt", "a.txt") == (
        "data.text (a.txt and 2 more) must be longer: its train split has 2 characters, "
        "and block_size (8) needs at least 9"
    )


LIST = ["books/1.txt", "books/2.txt", "books/late/3.txt"]


@pytest.mark.parametrize("form", ["list", "pattern", "arguments", "yaml"])
def test_however_it_is_said_a_run_trains_on_it_and_finds_it_again(run, books, tmp_path, monkeypatch, form):
    Path("my.yaml").write_text(yaml.safe_dump({"data": {"text": LIST}}), encoding="utf-8")
    said = {
        "list": ["--data.text", json.dumps(LIST)],
        "pattern": ["--data.text", "books/**/*.txt"],
        "arguments": ["--data.text", *LIST],
        "yaml": ["--config", "my.yaml"],
    }[form]
    args = [arg for arg in TINY if arg not in ("--data.text", "verse.txt")]
    result = run(*args, *said, "--data.batch_size", "3")
    assert result.code == 0, result.err
    here = Path.cwd()
    short = str(here / "books/**/*.txt") if form == "pattern" else f"{here}/books/1.txt and 2 more"
    assert f"text: {short}, 3 files, 1,340 characters, 21 different, SHA-256 {SHA256}\n" in result.err
    name = str(here / "books/**/*.txt") if form == "pattern" else [str(here / path) for path in LIST]
    checkpoint = torch.load("runs/version_0/checkpoints/last.ckpt", weights_only=True)
    assert checkpoint["CharDataModule"]["text"] == name
    assert yaml.safe_load(Path("runs/version_0/config.yaml").read_text(encoding="utf-8"))["data"]["text"] == name
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    last = str(here / "runs/version_0/checkpoints/last.ckpt")
    for text in ([], ["--data.text", "[auto]"], ["--data.text", str(here / "verse.txt")]):
        result = run("validate", "--trainer.accelerator", "cpu", "--ckpt_path", last, *text)
        assert result.code == 0, result.err
        assert "characters: 128\n" in result.out
    monkeypatch.chdir(here)
    result = run(*RESUMED)
    assert result.code == 0, result.err
    assert "changed: data.text" not in result.err


def test_several_files_train_as_their_text_in_one_does(run, books, tiny_run):
    assert run(*TINY, "--data.text", *LIST).code == 0
    assert exact_rows(Path("runs/version_1")) == exact_rows(tiny_run)


@pytest.mark.parametrize("change", ["edited", "added", "gone"])
def test_a_pattern_that_has_come_to_mean_another_text_is_refused(run, books, change):
    assert run(*TINY, "--data.text", "books/**/*.txt").code == 0
    if change == "gone":
        Path("books/1.txt").unlink()
    else:
        Path("books/2.txt" if change == "edited" else "books/late/4.txt").write_text("When", encoding="utf-8")
    pattern = Path("books/**/*.txt").absolute()
    message = refused(run, *RESUMED)
    assert message.startswith(f"data.text ({pattern}) must have the SHA-256 {SHA256}, but has ")
    assert refused(run, "validate") == message


def test_the_order_of_the_files_is_part_of_the_text(run, books):
    assert run(*TINY, "--data.text", *LIST).code == 0
    assert " must have the SHA-256 " in refused(run, *RESUMED, "--data.text", *LIST[::-1])


def test_a_shell_may_take_a_pattern_apart(books):
    command = f"{sys.executable} -m chargpt_lightning fit --data.text books/?.txt verse.txt --print_config"
    printed = subprocess.run(["bash", "-c", command], capture_output=True, check=True, timeout=120).stdout
    assert yaml.safe_load(printed)["data"]["text"] == ["books/1.txt", "books/2.txt", "verse.txt"]


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--data.text", "a", "b c", "-c", "d"], ['--data.text=["a", "b c"]', "-c", "d"]),
        (["--n", "1", "--data.text", "日.txt", "[🙂]"], ["--n", "1", '--data.text=["日.txt", "[🙂]"]']),
        (["--data.text", "a", "b", "--data.text", "c", "d"], ['--data.text=["a", "b"]', '--data.text=["c", "d"]']),
        (["--data.text", "a", "--data.text", "c", "d"], ["--data.text", "a", '--data.text=["c", "d"]']),
        (["--data.text", "[a]"], ["--data.text", "[a]"]),
        (["--data.text=a", "b"], ["--data.text=a", "b"]),
        (["--data.text"], ["--data.text"]),
        (["--data.text", "--n", "a"], ["--data.text", "--n", "a"]),
    ],
)
def test_several_arguments_become_a_list_and_one_stays_what_it_is(args, expected):
    assert texts_together(["fit", *args]) == ["fit", *expected]


STRINGS = [
    *("null", "123", "true", "1e3", "~", "a: b", "{a: b}", "[x].txt", "notes.txt", "FILE", "[1, 2]", "[a, null]"),
    *("*.txt", "a, b", "日本 🙂.txt", "books/*", "plays", "2020-01-01", "#c", "é"),
]


@pytest.mark.parametrize("value", STRINGS)
def test_what_is_no_list_stays_the_string_that_it_is(run, value):
    Path("my.yaml").write_text(
        yaml.safe_dump({"data": {"text": value}}, allow_unicode=True, default_style='"'), encoding="utf-8"
    )
    for said in (["--data.text", value], [f"--data.text={value}"], ["--config", "my.yaml"]):
        printed = run("fit", *said, "--print_config").out
        assert yaml.safe_load(printed)["data"]["text"] == value


@pytest.mark.parametrize("value", STRINGS)
def test_in_a_list_too(run, value):
    Path("my.yaml").write_text(yaml.safe_dump({"data": {"text": [value, "b"]}}, default_style='"'), encoding="utf-8")
    for said in (["--data.text", value, "b"], ["--config", "my.yaml"]):
        printed = run("fit", *said, "--print_config").out
        assert yaml.safe_load(printed)["data"]["text"] == [value, "b"]


def test_a_list_of_what_are_no_names_is_one_line(run):
    Path("my.yaml").write_text("data:\n  text: [1, 2]\n", encoding="utf-8")
    assert refused(run, "fit", "-c", "my.yaml").startswith('Parser key "data.text": ')
