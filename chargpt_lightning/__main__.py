"""`python -m chargpt_lightning`: what the process says, and its exit code."""

import errno
import locale
import os
import sys
from argparse import ArgumentError

from lightning.fabric.utilities.exceptions import MisconfigurationException

from chargpt_lightning.cli.cli import CharCLI
from chargpt_lightning.cli.import_policy import imports_checked
from chargpt_lightning.cli.parser import TOOLS
from chargpt_lightning.utils.console import as_typed, called_as, fail, is_first_device, set_up_messages, speak_utf8
from chargpt_lightning.utils.errors import ConfigError
from chargpt_lightning.utils.hardware import keep_freed_memory
from chargpt_lightning.utils.signals import Stopped, stop_on_signals


def main(args: list[str] | None = None) -> None:
    """Runs the command line.

    Args:
        args: The arguments; None takes the process's.

    Raises:
        SystemExit: With 1 after a setting, an input or a disk that cannot work, with 2 after a flag that cannot be
            read; one line on stderr says which. With 130 after Ctrl-C, with 143 after SIGTERM.
    """
    speak_utf8()
    set_up_messages()
    keep_freed_memory()
    try:
        with stop_on_signals():
            _run([as_typed(arg) for arg in sys.argv[1:]] if args is None else args)
    except Stopped as stop:  # of several devices the first speaks for all
        sys.exit(stop.exit_code if is_first_device() else 0)
    except ArgumentError as error:
        fail(error, exit_code=2)
    except (ConfigError, MisconfigurationException) as error:
        fail(error, exit_code=1)
    except OSError as error:
        if not _reader_has_gone(error):
            fail(error, exit_code=1)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except UnicodeError as error:
        encoding = locale.getencoding()
        fail(f"a name or a file of settings must be in the locale's encoding ({encoding}), but: {error}", exit_code=1)


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


if __name__ == "__main__":
    main()
