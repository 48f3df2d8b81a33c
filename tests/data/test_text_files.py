"""Files read in chunks and decoded as UTF-8, and the files that a pattern matches."""

import hashlib
import shutil
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from support.books import WHOLE
from support.command_line import VERSE
from support.platforms import posix

from chargpt_lightning import CharDataModule
from chargpt_lightning.data import text_files
from chargpt_lightning.data.corpus import cache_directory, load_corpus
from chargpt_lightning.data.text_files import read_utf8
from chargpt_lightning.utils.errors import ConfigError


def text(source: str | list[str]) -> str:
    return "".join(load_corpus(source).chunks())


def sources(source: str | list[str]) -> list[str]:
    return [part.source for part in load_corpus(source).parts]


def test_a_pattern_matches_files_only_sorted_by_path(books):
    assert sources("books/*.txt") == ["books/1.txt", "books/2.txt"]
    assert sources("books/[2-9].txt") == ["books/2.txt"]
    assert sources("books/**/*.txt") == ["books/1.txt", "books/2.txt", "books/late/3.txt"]
    assert sources("books/**/**/?.txt") == ["books/1.txt", "books/2.txt", "books/late/3.txt"]
    assert sources(str(Path("books/*.txt").absolute())) == [str(Path(f"books/{n}.txt").absolute()) for n in (1, 2)]


@posix
def test_a_link_to_a_folder_above_makes_no_file_match_twice(books):
    Path("books/above").symlink_to(Path("books").absolute(), target_is_directory=True)
    Path("books/same.txt").symlink_to(Path("books/1.txt").absolute())
    assert sources("books/**/*.txt") == ["books/1.txt", "books/2.txt", "books/late/3.txt"]
    assert text("books/**/*.txt") == WHOLE
    assert text(["books/same.txt", "books/1.txt"]) == 2 * WHOLE[:500]  # a list may repeat a file


@pytest.mark.parametrize("source", ["~nobody-of-that-name/1.txt", "~nobody-of-that-name/*.txt"])
def test_the_home_of_an_unknown_user_is_a_missing_file(source):
    with pytest.raises(ConfigError, match=r"data\.text \(~nobody-of-that-name/"):
        text(source)


def test_an_existing_file_is_not_read_as_a_pattern():
    Path("[a].txt").write_text("this", encoding="utf-8")
    Path("a.txt").write_text("not this", encoding="utf-8")
    assert text("[a].txt") == "this"
    assert text(["[a].txt", "a.txt"]) == "thisnot this"
    assert load_corpus("[a].txt").name == str(Path("[a].txt").absolute())
    Path("[a].txt").unlink()
    assert text("[a].txt") == "not this"


def test_stored_patterns_mean_the_same_in_every_directory(books, tmp_path, monkeypatch):
    odd = tmp_path / "[x]*"
    odd.mkdir()
    Path("books").rename(odd / "books")
    monkeypatch.chdir(odd)
    names = [load_corpus(source).name for source in ("books/*.txt", ["books/1.txt", "books/late/*"])]
    found = [text(name) for name in names]
    monkeypatch.chdir(tmp_path)
    assert [text(name) for name in names] == found == [WHOLE[:501], WHOLE[:500] + WHOLE[501:]]


def test_a_tilde_is_the_home_directory(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home/a.txt").write_text("at home")
    assert text("~/*.txt") == text(["~/a.txt"]) == "at home"


PIECES = st.lists(st.lists(st.sampled_from(["a", "\r", "\n", "\ufeff", "不", "🙂"])), min_size=1)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(pieces=PIECES, size=st.integers(1, 5))
def test_files_are_decoded_one_by_one_whatever_the_size_of_chunks(pieces, size):
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


def test_an_unknown_character_is_named_with_its_position_in_its_file(books, monkeypatch):
    monkeypatch.setattr(text_files, "CHUNK_BYTES", 10)
    Path("books/2.txt").write_text(VERSE + "ü", encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        _ = CharDataModule("books/*.txt", alphabet="".join(sorted(set(VERSE)))).ids
    assert str(error.value).startswith(
        f"data.text ('ü' at position {len(VERSE)} of books/2.txt) must use only the 21 char"
    )


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 2**18])
@pytest.mark.parametrize(
    ("content", "byte"),
    [
        (b"caf\xe9", 3),
        (b"abc\xff", 3),
        ("ab\ud800".encode("utf-8", "surrogatepass") * 99, 2),
        ("\ufeffab".encode("utf-16"), 0),
        (b"\xef\xbb\xbfab\r\n\xe6\x97\xa5ab\xe6\x97ab", 12),
    ],
    ids=["Latin-1", "no character", "surrogates", "UTF-16", "cut in a character"],
)
def test_a_file_that_is_not_utf8_is_refused_by_its_first_wrong_byte(monkeypatch, content, byte, size):
    monkeypatch.setattr(text_files, "CHUNK_BYTES", size)
    Path("mine.txt").write_bytes(content)
    for read in (partial(text, "mine.txt"), partial(read_utf8, Path("mine.txt"), "data.text")):
        with pytest.raises(ConfigError) as error:
            read()
        assert str(error.value) == f"data.text (mine.txt) must be UTF-8, but byte {byte} is not"
