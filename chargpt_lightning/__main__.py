"""`python -m chargpt_lightning`: what the process says, and its exit code."""

import logging
import os
import re
import sys
import warnings
from argparse import ArgumentError
from typing import NoReturn

from lightning.fabric.utilities.exceptions import MisconfigurationException

from chargpt_lightning.cli import CharCLI
from chargpt_lightning.errors import ConfigError


def main(args: list[str] | None = None) -> None:
    """Runs the command line.

    Args:
        args: The arguments; None takes the process's.

    Raises:
        SystemExit: With 1 after a setting or an input that cannot work, with 2 after a flag that cannot be read;
            one line on stderr says which.
    """
    _set_up_messages()
    try:
        CharCLI(args)
    except ArgumentError as error:
        _fail(error, exit_code=2)
    except (ConfigError, MisconfigurationException) as error:
        _fail(error, exit_code=1)
    except BrokenPipeError:  # the reader, `head` for one, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _fail(error: Exception, exit_code: int) -> NoReturn:
    message = " ".join(str(error).split())
    message = re.sub(r"Subtypes: .* Errors: ", "", message)  # jsonargparse says twice what a value may be
    print("error:", message, file=sys.stderr)
    sys.exit(exit_code)


def _set_up_messages() -> None:
    """Our own messages to stderr, once for all devices; of Lightning's only what a user can act on."""
    ours = logging.getLogger(__package__)
    ours.setLevel(logging.INFO if os.environ.get("LOCAL_RANK", "0") == "0" else logging.ERROR)
    ours.handlers = [logging.StreamHandler(sys.stderr)]
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        r".*isinstance\(treespec, LeafSpec\)",  # Lightning's own affair with torch
        r".*does not have many workers",  # cutting windows costs microseconds
        r".*callbacks used to create the checkpoint need to be provided",  # not to validate or to sample
    ):
        warnings.filterwarnings("ignore", message=message)


if __name__ == "__main__":
    main()
