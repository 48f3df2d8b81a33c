"""The command line's outside: what the program is called, its subcommands, and where `--config` may stand."""

import sys
from pathlib import Path
from typing import Any

from lightning.pytorch.cli import LightningArgumentParser

from chargpt_lightning import __version__
from chargpt_lightning.completion import COMMAND, PrintCompletion
from chargpt_lightning.export import export_parser
from chargpt_lightning.recipes import find_config


def called_as() -> str:
    """What a user types before the subcommand."""
    return COMMAND if Path(sys.argv[0]).stem == COMMAND else f"python -m {__package__}"


class Parser(LightningArgumentParser):
    """Lightning's, and beside its subcommands what needs no trainer: flags, and `export`, which is run elsewhere."""

    def add_subcommands(self, *args: Any, **kwargs: Any) -> Any:
        """The action that takes subcommands; only the parser of the whole program has one."""
        version = f"{__package__} {__version__}"
        self.add_argument("--version", action="version", version=version, help="Print the version and exit.")
        self.add_argument("--print_completion", action=PrintCompletion)
        action = super().add_subcommands(*args, **kwargs)
        parser = export_parser(f"{self.prog} export")
        action.add_subcommand("export", parser, help=parser.description)
        return action


def configs_first(args: list[str]) -> list[str]:
    """Moves `--config FILE` to the front, so that a flag beats a file wherever it stands; a recipe becomes its file."""
    configs, others = [], []
    remaining = iter(args)
    for arg in remaining:
        name, equals, value = arg.partition("=")
        if name not in ("-c", "--config"):
            others.append(arg)
        elif equals or (value := next(remaining, "")):
            configs.append(f"--config={find_config(value)}")
        else:
            configs.append(arg)  # the parser says what it lacks
    return others[:1] + configs + others[1:]
