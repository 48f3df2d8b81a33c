"""Checks the arguments of `play`, then serves its page until Ctrl-C."""

import socket
from importlib.util import find_spec
from pathlib import Path

from jsonargparse import ArgumentParser

from chargpt_lightning.cli.help import SUBCOMMANDS
from chargpt_lightning.cli.page.networks import load
from chargpt_lightning.utils.errors import ConfigError
from chargpt_lightning.utils.run_dir import find_checkpoint, name_of, relative_to_cwd
from chargpt_lightning.utils.utf8 import is_encodable


def play(ckpt_path: str = "best", out_dir: Path = Path("runs"), port: int = 7860, host: str = "127.0.0.1") -> None:
    """Serves a page that tries checkpoints, until Ctrl-C.

    Args:
        ckpt_path: The checkpoint to begin with: one of this package, nanoGPT or Hugging Face; a run's directory, which
            stands for its best one; `best` and `last` are those of the newest run in `out_dir`.
        out_dir: A directory of runs, which the page lists, or nanoGPT's directory with a ckpt.pt.
        port: The port of the page.
        host: The address of the page. 127.0.0.1 is for this machine alone, 0.0.0.0 for all that can reach it.

    Raises:
        ConfigError: If the extra `play` is not installed, the checkpoint cannot be read, or the address cannot be used.
    """
    if not (find_spec("gradio") and find_spec("matplotlib")):
        raise ConfigError("play needs the extra play: pip install -c constraints.txt '.[play]'")
    if not 0 < port < 2**16:
        raise ConfigError(f"port ({port}) must be from 1 to 65535")
    name = name_of(relative_to_cwd(find_checkpoint(ckpt_path, out_dir)))
    if not is_encodable(name):
        raise ConfigError(f"ckpt_path ({name}) must be a UTF-8 path, because browsers are sent nothing else")
    load(name)
    try:
        socket.getaddrinfo(host, port)  # with a long name, create_server would leave a socket open
        socket.create_server((host, port)).close()
    except (OSError, UnicodeError) as error:
        reason = str(getattr(error, "strerror", None) or error).partition(" (while")[0]
        rule = "must be a free address of this machine"
        raise ConfigError(f"host and port ({host}:{port}) {rule}, but: {reason}; --port sets another port") from error
    from chargpt_lightning.cli.page.page import build, serve  # Gradio's import takes seconds

    serve(build(name, out_dir), host, port)


def play_parser(prog: str) -> ArgumentParser:
    """Returns the parser of `play`, whose flags are the arguments of the function."""
    usage = "%(prog)s [--ckpt_path CKPT] [--out_dir DIR] [--port PORT] [--host HOST]"
    parser = ArgumentParser(
        prog=prog, usage=usage, description=SUBCOMMANDS["play"], allow_abbrev=False, exit_on_error=False
    )
    parser.add_function_arguments(play)
    return parser
