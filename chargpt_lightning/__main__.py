"""`python -m chargpt_lightning`: what the process says, and its exit code."""

import errno
import io
import locale
import logging
import os
import re
import sys
import warnings
from argparse import ArgumentError
from typing import NoReturn

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities import rank_zero_only
from tqdm import tqdm

from chargpt_lightning.allocator import keep_freed_memory
from chargpt_lightning.cli import CharCLI
from chargpt_lightning.errors import ConfigError
from chargpt_lightning.imports import imports_checked
from chargpt_lightning.parser import TOOLS, called_as
from chargpt_lightning.stopping import Stopped, stop_on_signals


def main(args: list[str] | None = None) -> None:
    """Runs the command line.

    Args:
        args: The arguments; None takes the process's.

    Raises:
        SystemExit: With 1 after a setting, an input or a disk that cannot work, with 2 after a flag that cannot be
            read; one line on stderr says which. With 130 after Ctrl-C, with 143 after SIGTERM.
    """
    _speak_utf8()
    _set_up_messages()
    keep_freed_memory()
    try:
        with stop_on_signals():
            _run([_as_typed(arg) for arg in sys.argv[1:]] if args is None else args)
    except Stopped as stop:  # of several devices the first speaks for all
        sys.exit(stop.exit_code if _is_first_device() else 0)
    except ArgumentError as error:
        _fail(error, exit_code=2)
    except (ConfigError, MisconfigurationException) as error:
        _fail(error, exit_code=1)
    except OSError as error:
        if not _reader_has_gone(error):
            _fail(error, exit_code=1)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except UnicodeError as error:
        encoding = locale.getencoding()
        _fail(f"a name or a file of settings must be in the locale's encoding ({encoding}), but: {error}", exit_code=1)


def _run(args: list[str]) -> None:
    name = args[0] if args else ""
    if name not in TOOLS:
        with imports_checked():
            CharCLI(args)
        return
    make_parser, tool = TOOLS[name]
    given = make_parser(f"{called_as()} {name}").parse_args(args[1:])
    tool(**vars(given))


def _reader_has_gone(error: OSError) -> bool:
    """Whether what reads our stdout, `head` for one, has seen enough; on Windows that is EINVAL, of no file."""
    on_windows = sys.platform == "win32" and error.errno == errno.EINVAL and error.filename is None
    return on_windows or isinstance(error, BrokenPipeError)


def _is_first_device() -> bool:
    return rank_zero_only.rank == 0  # type: ignore[attr-defined]


def _fail(error: Exception | str, exit_code: int) -> NoReturn:
    message = " ".join(str(error).split())
    message = re.sub(r"Subtypes: .* Errors: ", "", message)  # jsonargparse says twice what a value may be
    print("error:", message, file=sys.stderr)
    sys.exit(exit_code)


def _as_typed(arg: str) -> str:
    """An argument in UTF-8, also where the locale knows nothing but ASCII and hands on other bytes as surrogates."""
    try:
        return arg.encode("ascii", "surrogateescape").decode()
    except UnicodeError:
        return arg


def _speak_utf8() -> None:
    """Writes UTF-8 whatever the locale says, with the error handlers of Python's own UTF-8 mode."""
    for stream, errors in ((sys.stdout, "surrogateescape"), (sys.stderr, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):  # a notebook has others
            stream.reconfigure(encoding="utf-8", errors=errors)


class _Stderr(logging.Handler):
    """Writes messages above the progress line."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)


def _set_up_messages() -> None:
    """Our own messages to stderr, once for all devices; of Lightning's only what a user can act on."""
    ours = logging.getLogger(__package__)
    ours.setLevel(logging.INFO if _is_first_device() else logging.ERROR)
    ours.handlers = [_Stderr()]
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
        logging.getLogger(name).handlers = [_Stderr()]
    for name in ("callbacks.early_stopping", "profilers", "tuner.lr_finder"):  # which speak where they are asked to
        logging.getLogger(f"lightning.pytorch.{name}").setLevel(ours.level)
    for message in (
        r".*isinstance\(treespec, LeafSpec\)",  # Lightning's own affair with torch
        r".*does not have many workers",  # cutting windows costs microseconds
        r"Consider setting `persistent_workers=True`",  # on Windows and macOS; whoever takes workers has a huge text
        r".*callbacks used to create the checkpoint need to be provided",  # not to validate or to sample
        r"You're using the WeightAveraging callback with a model that overrides",  # which it does to be sharded
        r"Checkpoint directory .* exists and is not empty",  # it is the resumed run's own
        r"When using the `ThroughputMonitor`, you need to define a `flops_per_batch`",  # characters say more
        r"You requested to overfit but enabled (train|val) dataloader shuffling",  # windows are never shuffled
        r"Warning: Profiler clears events at the end of each cycle",  # as Lightning's schedule has it
        r"Incorrect schedule: RECORD followed by NONE",  # likewise
    ):
        warnings.filterwarnings("ignore", message=message)


if __name__ == "__main__":
    main()
