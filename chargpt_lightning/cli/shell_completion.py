"""The script by which a shell completes the command `chargpt`, written by jsonargparse and shtab."""

import sys
from argparse import SUPPRESS, Action
from collections.abc import Iterable
from typing import Any

from chargpt_lightning.utils.console import COMMAND
from chargpt_lightning.utils.errors import require_package


class PrintCompletion(Action):
    """`--print_completion`; jsonargparse has one too, which also offers a JSON schema that fails on our parser."""

    def __init__(self, option_strings: list[str], dest: str) -> None:
        self.subcommands: dict[str, Any] = {}  # their parsers by name, once they are known
        super().__init__(
            option_strings,
            dest=SUPPRESS,
            default=SUPPRESS,
            choices=["shtab-bash", "shtab-zsh", "shtab-fish"],
            help="Print the script by which a shell completes this command, and exit; needs the package shtab.",
        )

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        """Prints the script for the installed command, whatever this process was called as.

        Raises:
            ConfigError: If shtab is missing.
        """
        require_package("print_completion", values, "shtab")
        parser.prog = COMMAND  # no shell completes `python -m`
        _hide_links(self.subcommands.values())
        print(parser.get_completion_script(values))
        sys.exit(0)


def _hide_links(parsers: Iterable[Any]) -> None:
    """Links between settings stand among the flags under names like `a --> b`, which zsh trips over."""
    for parser in parsers:
        for action in parser._actions:
            if any(not option.startswith("-") for option in action.option_strings):
                action.help = SUPPRESS
