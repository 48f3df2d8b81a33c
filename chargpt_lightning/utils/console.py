"""The program's name and version, and how its messages are printed."""

import io
import logging
import re
import shlex
import shutil
import sys
import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NoReturn

from tqdm import tqdm

from chargpt_lightning.utils.signals import leave_closed_terminal

COMMAND = "chargpt"
PACKAGE = "chargpt_lightning"

try:
    VERSION = version(PACKAGE)
except PackageNotFoundError:  # a clone on the path, not installed
    VERSION = "0+unknown"


def program_name() -> str:
    """Returns what the user typed before the subcommand, so that the commands in messages can be pasted."""
    program = Path(sys.argv[0])
    path = shlex.quote(program.as_posix())  # works in every shell
    if program.name == "__main__.py":
        return f"python -m {program.parent.name}"
    if program.suffix == ".py":  # the user's own script
        return f"python {path}"
    if program.stem != COMMAND:
        return f"python -m {PACKAGE}"
    return COMMAND if _is_found_by_name(program) else path


def _is_found_by_name(program: Path) -> bool:
    """Whether the shell finds the command without its directory; Windows also leaves out the suffix."""
    found = shutil.which(COMMAND)
    return program.parent == Path() or (found is not None and Path(found).parent.resolve() == program.parent.resolve())


def is_first_device() -> bool:
    """Whether this process trains on the first of all devices, and therefore prints messages."""
    from lightning.pytorch.utilities import rank_zero_only  # takes seconds, and `--help` does not need it

    return rank_zero_only.rank == 0  # type: ignore[attr-defined]


def fail(error: Exception | str, exit_code: int) -> NoReturn:
    """Prints an error in one line and ends the process with this exit code."""
    message = " ".join(str(error).split())
    message = re.sub(r"Subtypes: .* Errors: ", "", message)  # jsonargparse repeats which types are valid
    print("error:", message, file=sys.stderr)
    sys.exit(exit_code)


def decoded_arg(arg: str) -> str:
    """Decodes a command-line argument as UTF-8. In an ASCII locale, Python passes other bytes as surrogates."""
    try:
        return arg.encode("ascii", "surrogateescape").decode()
    except UnicodeError:
        return arg


def use_utf8() -> None:
    """Makes stdout and stderr use UTF-8 in every locale, with the error handlers of Python's UTF-8 mode."""
    for stream, errors in ((sys.stdout, "surrogateescape"), (sys.stderr, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):  # not so in a notebook
            stream.reconfigure(encoding="utf-8", errors=errors)


class _Stderr(logging.Handler):
    """Prints messages above the progress line."""

    def emit(self, record: logging.LogRecord) -> None:
        leave_closed_terminal()  # as a job that outlives its terminal finds it
        tqdm.write(self.format(record), file=sys.stderr)


def set_up_logging() -> None:
    """Prints messages to stderr, only on the first device; of Lightning's, only those that a user can act on."""
    log = logging.getLogger(PACKAGE)
    log.setLevel(logging.INFO if is_first_device() else logging.ERROR)
    log.handlers = [_Stderr()]
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
        logging.getLogger(name).handlers = [_Stderr()]
    for name in ("callbacks.early_stopping", "profilers", "tuner.lr_finder"):  # only used if the user adds them
        logging.getLogger(f"lightning.pytorch.{name}").setLevel(log.level)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns that torchvision is not installed
    for message in (
        r".*isinstance\(treespec, LeafSpec\)",  # caused by Lightning's own use of torch
        r".*does not have many workers",  # unnecessary: a batch of windows takes microseconds
        r"Consider setting `persistent_workers=True`",  # starting them costs little next to reading a huge text
        r".*callbacks used to create the checkpoint need to be provided",  # unnecessary to validate or to sample
        r"You're using the WeightAveraging callback with a model that overrides",  # only to shard the network
        r"Checkpoint directory .* exists and is not empty",  # the resumed run's own directory
        r"When using the `ThroughputMonitor`, you need to define a `flops_per_batch`",  # not needed for characters/s
        r"You requested to overfit but enabled (train|val) dataloader shuffling",  # windows are never shuffled
        r"You're resuming from a checkpoint that ended before the epoch ended",  # windows continue where they ended
        r"The number of training batches .* is smaller than the logging interval",  # updates of all epochs are counted
        r"Warning: Profiler clears events at the end of each cycle",  # Lightning's default schedule
        r"Incorrect schedule: RECORD followed by NONE",  # likewise
    ):
        warnings.filterwarnings("ignore", message=message)
