"""What the program is called, and how its messages reach a terminal."""

import io
import logging
import re
import sys
import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NoReturn

from lightning.pytorch.utilities import rank_zero_only
from tqdm import tqdm

COMMAND = "chargpt"
PACKAGE = "chargpt_lightning"

try:
    VERSION = version(PACKAGE)
except PackageNotFoundError:  # a clone on the path, not installed
    VERSION = "0+unknown"


def called_as() -> str:
    """What a user types before the subcommand."""
    return COMMAND if Path(sys.argv[0]).stem == COMMAND else f"python -m {PACKAGE}"


def is_first_device() -> bool:
    """Whether this process is the one of several devices that prints messages."""
    return rank_zero_only.rank == 0  # type: ignore[attr-defined]


def fail(error: Exception | str, exit_code: int) -> NoReturn:
    """Prints an error in one line and ends the process."""
    message = " ".join(str(error).split())
    message = re.sub(r"Subtypes: .* Errors: ", "", message)  # jsonargparse says twice what a value may be
    print("error:", message, file=sys.stderr)
    sys.exit(exit_code)


def as_typed(arg: str) -> str:
    """An argument in UTF-8, also where the locale knows nothing but ASCII and hands on other bytes as surrogates."""
    try:
        return arg.encode("ascii", "surrogateescape").decode()
    except UnicodeError:
        return arg


def speak_utf8() -> None:
    """Writes UTF-8 whatever the locale says, with the error handlers of Python's own UTF-8 mode."""
    for stream, errors in ((sys.stdout, "surrogateescape"), (sys.stderr, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):  # a notebook has others
            stream.reconfigure(encoding="utf-8", errors=errors)


class _Stderr(logging.Handler):
    """Writes messages above the progress line."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)


def set_up_messages() -> None:
    """Our own messages to stderr, once for all devices; of Lightning's only what a user can act on."""
    ours = logging.getLogger(PACKAGE)
    ours.setLevel(logging.INFO if is_first_device() else logging.ERROR)
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
