"""Runs the command line, prints errors in one line, sets the exit code."""

import errno
import locale
import os
import sys
from argparse import ArgumentError

from lightning.fabric.utilities.exceptions import MisconfigurationException

from chargpt_lightning.cli.cli import CharCLI
from chargpt_lightning.cli.import_policy import imports_checked
from chargpt_lightning.cli.parser import HANDLERS, subcommand_first
from chargpt_lightning.cli.paths import expand_paths
from chargpt_lightning.cli.suggestions import explained
from chargpt_lightning.datamodule import CharDataModule
from chargpt_lightning.module import CharGPT
from chargpt_lightning.utils.console import fail, is_first_device, program_name, set_up_logging
from chargpt_lightning.utils.errors import ConfigError
from chargpt_lightning.utils.hardware import is_out_of_memory, keep_freed_memory
from chargpt_lightning.utils.signals import Stopped, stop_on_signals

SMALLER = (
    "use a smaller network (--model.n_embd, --model.n_layer, --model.block_size), a smaller --data.batch_size, "
    "or fewer samples (--sample.num_samples, --sample.max_new_tokens)"
)


def run(
    args: list[str],
    model_class: type[CharGPT] | None = None,
    datamodule_class: type[CharDataModule] | None = None,
) -> None:
    """Runs the command line.

    Args:
        args: The arguments.
        model_class: The subclass of CharGPT to use instead.
        datamodule_class: The subclass of CharDataModule to use instead.

    Raises:
        SystemExit: With 1 if a setting or input is invalid or a file cannot be written, with 2 if a flag cannot be
            parsed; the error is printed to stderr in one line. With 130 after Ctrl-C, 143 after SIGTERM and
            129 after SIGHUP.
    """
    set_up_logging()
    keep_freed_memory()
    try:
        with stop_on_signals():
            _run_subcommand(args, model_class, datamodule_class)
    except Stopped as stop:  # only the first of several devices reports it
        sys.exit(stop.exit_code if is_first_device() else 0)
    except ArgumentError as error:
        fail(error, exit_code=2)
    except (ConfigError, MisconfigurationException) as error:
        fail(error, exit_code=1)
    except OSError as error:
        if not _stdout_was_closed(error):
            fail(error, exit_code=1)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except ImportError as error:
        fail(f"a setting needs a package that cannot be imported: {error}", exit_code=1)
    except UnicodeError as error:
        encoding = locale.getencoding()
        fail(f"file names and settings files must be in the locale's encoding ({encoding}), but: {error}", exit_code=1)
    except (MemoryError, RuntimeError, ValueError) as error:
        if not is_out_of_memory(error):
            raise
        fail(f"out of memory: {str(error) or 'an array is too large'}; {SMALLER}", exit_code=1)


def _run_subcommand(
    args: list[str], model_class: type[CharGPT] | None, datamodule_class: type[CharDataModule] | None
) -> None:
    args = subcommand_first(args)
    name = args[0] if args else ""
    if name not in HANDLERS:
        with imports_checked():
            CharCLI(args, model_class or CharGPT, datamodule_class or CharDataModule)
        return
    make_parser, tool = HANDLERS[name]
    parser = make_parser(f"{program_name()} {name}")
    with explained(parser, {}):
        given = parser.parse_args(args[1:])
    tool(**vars(expand_paths(given)))


def _stdout_was_closed(error: OSError) -> bool:
    """Whether the reader of stdout closed it, as `head` does; Windows raises EINVAL without a file name."""
    on_windows = sys.platform == "win32" and error.errno == errno.EINVAL and error.filename is None
    return on_windows or isinstance(error, BrokenPipeError)
