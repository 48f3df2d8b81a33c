"""The parser of the command line: its subcommands, `--version`, and the order of its arguments."""

import json
from collections.abc import Callable
from itertools import takewhile
from typing import Any

from jsonargparse import ArgumentParser
from lightning.pytorch.cli import LightningArgumentParser

from chargpt_lightning.cli.export import export, export_parser
from chargpt_lightning.cli.plot import plot, plot_parser
from chargpt_lightning.cli.recipes import find_config, recipes
from chargpt_lightning.cli.shell_completion import PrintCompletion
from chargpt_lightning.utils.console import PACKAGE, VERSION, program_name

_USAGE = "%(prog)s [-c CONFIG] [--GROUP.OPTION VALUE ...]"  # argparse's default lists every option

Tool = tuple[Callable[[str], ArgumentParser], Callable[..., None]]  # makes the parser, given its name; does the work
TOOLS: dict[str, Tool] = {"export": (export_parser, export), "plot": (plot_parser, plot)}  # need no trainer


def help_texts() -> dict[str, Any]:
    """Returns LightningCLI's `parser_kwargs`: the help texts of the program and its subcommands."""
    return {
        "prog": program_name(),
        "description": "Trains, validates and samples a character-level GPT.",
        "epilog": f"Recipes that --config accepts by name: {', '.join(recipes())}.",
        "fit": {"description": "Trains a network and keeps the best.", "usage": _USAGE},
        "validate": {"description": "Evaluates a checkpoint on the entire val split.", "usage": _USAGE},
        "predict": {"description": "Samples text from a checkpoint.", "usage": _USAGE},
    }


class Parser(LightningArgumentParser):
    """Lightning's parser with the program's own flags, and the subcommands that need no trainer."""

    def add_subcommands(self, *args: Any, **kwargs: Any) -> Any:
        """Adds the program's own flags and subcommands; Lightning calls this for the top-level parser only."""
        version = f"{PACKAGE} {VERSION}"
        self.add_argument("--version", action="version", version=version, help="Print the version and exit.")
        completion = self.add_argument("--print_completion", action=PrintCompletion)
        action = super().add_subcommands(*args, **kwargs)
        for name, (make_parser, _) in TOOLS.items():
            parser = make_parser(f"{self.prog} {name}")
            action.add_subcommand(name, parser, help=parser.description)
        completion.subcommands = action.choices
        return action


def configs_first(args: list[str]) -> list[str]:
    """Moves `--config FILE` to the front, so that flags always override files; replaces a recipe's name by its file."""
    configs, others = [], []
    remaining = iter(args)
    for arg in remaining:
        name, equals, value = arg.partition("=")
        if name not in ("-c", "--config"):
            others.append(arg)
        elif equals or (value := next(remaining, "")):
            configs.append(f"--config={find_config(value)}")
        else:
            configs.append(arg)  # the parser reports the missing value
    return others[:1] + configs + others[1:]


def join_texts(args: list[str]) -> list[str]:
    """Joins the values of `--data.text A B C` into one, because shells expand a pattern without quotes to several."""
    if "--data.text" not in args:
        return args
    flag = args.index("--data.text")
    texts = list(takewhile(lambda arg: not arg.startswith("-"), args[flag + 1 :]))
    rest = join_texts(args[flag + 1 + len(texts) :])
    if len(texts) < 2:
        return [*args[: flag + 1], *texts, *rest]
    return [*args[:flag], f"--data.text={json.dumps(texts, ensure_ascii=False)}", *rest]
