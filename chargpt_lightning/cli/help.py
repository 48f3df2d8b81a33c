"""The program's help and version, and what it answers without a subcommand, before torch is imported."""

import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from difflib import get_close_matches
from itertools import takewhile
from typing import NoReturn

from chargpt_lightning.cli.recipes import recipes
from chargpt_lightning.cli.shell_completion import SHELLS
from chargpt_lightning.utils.console import PACKAGE, VERSION, fail, program_name

TRAINED = {
    "fit": "Trains a network and keeps the best.",
    "validate": "Evaluates a checkpoint on the entire val split.",
    "predict": "Samples text from a checkpoint.",
}
TOOLS = {  # need no trainer
    "export": "Converts a checkpoint to the format of another program.",
    "plot": "Plots the losses and learning rates of runs into one figure.",
    "play": "Serves a local page that tries checkpoints.",
}
SUBCOMMANDS = TRAINED | TOOLS
DESCRIPTION = "Trains, validates and samples a character-level GPT."
VERSION_LINE = f"{PACKAGE} {VERSION}"
EXAMPLES = """\
examples:
  {0} fit --config shakespeare_char
  {0} predict --sample.prompt "ROMEO:"
  {0} plot runs/shakespeare_char/version_0

recipes that --config accepts by name:
  {1}

`{0} fit --help` lists all settings."""


def answer(args: list[str]) -> None:
    """Answers a command line whose answer needs no torch, and ends the process; returns for all others.

    These are `--help` and `--version` before a subcommand, no arguments, and an unknown subcommand.

    Raises:
        SystemExit: With 0 after help or version, with 2 if there is no such subcommand.
    """
    before = list(takewhile(lambda arg: arg not in SUBCOMMANDS, args))
    if {"-h", "--help"} & set(before):
        _parser().print_help()
        sys.exit(0)
    if "--version" in before:
        print(VERSION_LINE)
        sys.exit(0)
    if not args or (before and not args[0].startswith("-")):
        _refuse(args[0] if args else "none")


def _refuse(given: str) -> NoReturn:
    guess = get_close_matches(given, SUBCOMMANDS, n=1)
    advice = f"did you mean {guess[0]}?" if guess else f"`{program_name()} --help` describes them"
    fail(f"subcommand ({given}) must be one of {', '.join(SUBCOMMANDS)}; {advice}", exit_code=2)


def _parser() -> ArgumentParser:
    prog = program_name()
    parser = ArgumentParser(
        prog=prog,
        usage=f"{prog} SUBCOMMAND [--GROUP.OPTION VALUE ...]",
        description=DESCRIPTION,
        epilog=EXAMPLES.format(prog, ", ".join(recipes())),
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", help="print the version and exit")
    parser.add_argument("--print_completion", choices=SHELLS, help="print a completion script for a shell and exit")
    subcommands = parser.add_subparsers(title="subcommands", metavar="SUBCOMMAND")
    for name, description in SUBCOMMANDS.items():
        subcommands.add_parser(name, help=description)
    return parser
