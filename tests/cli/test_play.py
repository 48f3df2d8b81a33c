"""`chargpt play`: what it refuses, and how it ends; the page is tested in page/test_page.py."""

import signal
import socket
import urllib.request

import pytest
from support.command_line import refused
from support.platforms import needs, posix

FREE = "must be a free address of this machine, but: "
ELSEWHERE = "; --port sets another port"


@pytest.mark.parametrize("missing", ["gradio", "matplotlib"])
def test_without_the_extra_the_error_names_it(run, tiny_run, monkeypatch, missing):
    monkeypatch.setattr("chargpt_lightning.cli.play.find_spec", lambda name: None if name == missing else name)
    assert refused(run, "play") == "play needs the extra play: pip install -c constraints.txt '.[play]'"


@needs("gradio")
@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--port", "0"], "port (0) must be from 1 to 65535"),
        (["--port", "65536"], "port (65536) must be from 1 to 65535"),
        (["--host", "no.such.host.invalid"], f"host and port (no.such.host.invalid:7860) {FREE}"),
        (["--host", "ü" * 80], f"host and port ({'ü' * 80}:7860) {FREE}"),
        (["--ckpt_path", "\udcff"], r"ckpt_path (\udcff) must be a UTF-8 path, because browsers are sent nothing else"),
        (["--ckpt_path", "nowhere"], "ckpt_path (nowhere) must be a checkpoint file, but there is no such file"),
        (["--ckpt_path", "verse.txt"], "ckpt_path (verse.txt) must be an intact checkpoint file"),
        (["--share"], "--share is no setting of play; `chargpt play --help` lists all settings"),
    ],
)
def test_what_cannot_work_is_refused(run, tiny_run, args, message):
    assert refused(run, "play", *args).startswith(message)


@needs("gradio")
def test_a_port_in_use_is_refused(run, tiny_run):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        message = refused(run, "play", "--port", str(port))
    assert message == f"host and port (127.0.0.1:{port}) {FREE}Address already in use{ELSEWHERE}"


@posix
@needs("gradio")
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_also_behind_a_proxy(tiny_run, serve, signum, code):
    process, address = serve(**dict.fromkeys(("http_proxy", "all_proxy"), "http://127.0.0.1:9"))
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(address, timeout=20) as answer:
        page = answer.read().decode()
    assert "chargpt play" in page
    process.signal(signum)
    result = process.result(timeout_s=30)
    assert (result.code, result.out) == (code, "")
    assert result.err == f"page: {address} (Ctrl-C ends it)\n"
