"""How the program calls itself, and how its messages reach a terminal."""

import io
import logging
import re
import sys
from pathlib import Path

import pytest
from lightning.pytorch.utilities import rank_zero_only
from support.command_line import TINY

from chargpt_lightning.utils.console import decoded_arg, fail, program_name, set_up_logging, use_utf8


def test_fit_prints_only_messages_of_this_package(run):
    result = run(*TINY)
    assert result.out == ""
    line = r"text: .*|network: .*|run: .*|step \d: .*|5 steps in .*|best val loss .*|sample from it: .*"
    assert all(re.fullmatch(line, printed) for printed in result.err.splitlines()), result.err


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("chargpt", "chargpt"),
        ("bin/chargpt", "chargpt"),
        ("bin/chargpt.exe", "chargpt"),
        ("not on path/chargpt", "'not on path/chargpt'"),
        ("/here/chargpt_lightning/__main__.py", "python -m chargpt_lightning"),
        ("/here/mine/__main__.py", "python -m mine"),
        ("path/to/main.py", "python path/to/main.py"),
        ("/usr/bin/pytest", "python -m chargpt_lightning"),
        ("-c", "python -m chargpt_lightning"),
    ],
)
def test_the_program_is_called_as_the_user_called_it(monkeypatch, path, name):
    monkeypatch.setattr(sys, "argv", [path])
    monkeypatch.setattr("shutil.which", lambda command: str(Path("bin", command).absolute()))
    for directory in ("bin", "not on path"):
        Path(directory).mkdir()
    assert program_name() == name


def test_an_error_is_one_line_and_the_exit_code(capsys):
    with pytest.raises(SystemExit) as exit:
        fail("two\n  lines, Subtypes: ('A', 'B') Errors: this", exit_code=2)
    assert exit.value.code == 2
    assert capsys.readouterr().err == "error: two lines, this\n"


def test_an_argument_in_utf8_is_read_in_an_ascii_locale():
    for arg in ("plain", "猫", "猫🐈"):
        as_ascii_locale_reads_it = arg.encode().decode("ascii", "surrogateescape")
        assert decoded_arg(as_ascii_locale_reads_it) == decoded_arg(arg) == arg
    assert decoded_arg("caf\udce9") == "caf\udce9", "Latin-1 stays as it is"


def test_output_is_utf8_whatever_the_locale(monkeypatch):
    streams = [io.TextIOWrapper(io.BytesIO(), encoding="ascii") for _ in range(2)]
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    use_utf8()
    for stream in streams:
        stream.write("猫\udce9")
        stream.flush()
    assert [stream.buffer.getvalue() for stream in streams] == ["猫".encode() + b"\xe9", "猫".encode() + rb"\udce9"]


@pytest.fixture
def set_up_on_device():
    """Sets up messages as the device of this rank does; afterwards they are those of the first device again."""

    def set_up_on_device(rank: int) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rank_zero_only, "rank", rank)
            set_up_logging()

    yield set_up_on_device
    set_up_on_device(0)


@pytest.mark.parametrize(("rank", "lines"), [(0, "a message\nan error\n"), (1, "an error\n")])
def test_the_first_device_prints_messages_and_all_print_errors(set_up_on_device, capsys, rank, lines):
    set_up_on_device(rank)
    log = logging.getLogger("chargpt_lightning.somewhere")
    log.info("a message")
    log.error("an error")
    assert capsys.readouterr().err == lines
