"""Files, the download with its cache, and what happens without a network."""

import hashlib
import logging
import os
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from support.platforms import posix

from chargpt_lightning.data import shakespeare, text_files
from chargpt_lightning.data.corpus import Corpus, load_corpus
from chargpt_lightning.utils.errors import ConfigError

TEXT = "First Citizen:\nBefore we proceed\n" * 50


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A server on this machine in the place of the real one; gives the file that it serves."""
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "input.txt").write_text(TEXT, encoding="utf-8", newline="\n")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setattr(shakespeare, "URL", f"http://127.0.0.1:{server.server_port}/input.txt")
    monkeypatch.setattr(shakespeare, "SHA256", hashlib.sha256(TEXT.encode()).hexdigest())
    yield folder / "input.txt"
    server.shutdown()
    thread.join()
    server.server_close()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def unreachable(monkeypatch):
    monkeypatch.setattr(shakespeare, "URL", "http://127.0.0.1:9/input.txt")


def text(found: Corpus) -> str:
    return "".join(found.chunks())


def cached() -> list[Path]:
    return [path for path in Path.home().rglob("*") if path.is_file()]


def test_a_file_is_named_by_its_absolute_path():
    found = load_corpus("verse.txt")
    assert found.name == str(Path("verse.txt").absolute())
    assert text(found) == Path("verse.txt").read_text(encoding="utf-8")


def test_tiny_shakespeare_is_downloaded_once(served):
    assert text(load_corpus("tinyshakespeare")) == TEXT
    (kept,) = cached()
    assert kept.read_text(encoding="utf-8") == TEXT
    served.unlink()
    assert text(load_corpus("tinyshakespeare")) == TEXT


def test_a_wrong_download_is_refused_and_not_kept(served):
    served.write_text("<html>404</html>", encoding="utf-8")
    with pytest.raises(ConfigError, match="the file has another SHA-256"):
        load_corpus("tinyshakespeare")
    assert cached() == []


def test_a_spoilt_cache_is_downloaded_again(served):
    load_corpus("tinyshakespeare")
    cached()[0].write_text("half a file", encoding="utf-8")
    assert text(load_corpus("tinyshakespeare")) == TEXT


def test_without_network_tiny_shakespeare_says_what_to_do(unreachable):
    with pytest.raises(
        ConfigError, match=r"ConnectionError; save the file as .*tinyshakespeare.txt.*--data.text plays"
    ):
        load_corpus("tinyshakespeare")


def test_auto_takes_tiny_shakespeare_where_it_can(served):
    assert load_corpus("auto").name == "tinyshakespeare"


def test_auto_falls_back_to_the_plays_and_says_so(unreachable, caplog):
    with caplog.at_level(logging.WARNING, logger="chargpt_lightning"):
        assert load_corpus("auto").name == "plays"
    (record,) = caplog.records
    assert "using `plays` instead, whose losses are not comparable" in record.getMessage()


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "No such file or directory"), (b"", "must not be empty"), (b"abc\xff", "must be UTF-8, but byte 3 is not")],
)
def test_a_file_that_cannot_serve_is_refused(content, message):
    path = Path("mine.txt")
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as error:
        text(load_corpus("mine.txt"))
    assert str(error.value).startswith("data.text (mine.txt) must")
    assert message in str(error.value)


def test_a_directory_is_no_text():
    with pytest.raises(
        ConfigError, match=r"data.text \(\.\) must be a file, or a character-level data folder from nanoGPT"
    ):
        load_corpus(".")


@posix
def test_what_can_be_read_only_once_is_no_text():
    os.mkfifo("pipe")
    with pytest.raises(
        ConfigError, match=r"data.text \(pipe\) must be a regular file, because it is read more than once"
    ):
        load_corpus("pipe")


@pytest.mark.parametrize("size", range(1, 8))
def test_an_error_tells_the_byte_of_the_file_whatever_the_chunks_are(monkeypatch, size):
    monkeypatch.setattr(text_files, "CHUNK_BYTES", size)
    Path("mine.txt").write_bytes(b"\xef\xbb\xbfab\r\n\xe6\x97\xa5ab\xe6\x97ab")
    with pytest.raises(ConfigError, match=r"data.text \(mine.txt\) must be UTF-8, but byte 12 is not"):
        text(load_corpus("mine.txt"))
