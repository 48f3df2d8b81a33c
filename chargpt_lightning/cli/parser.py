"""The parser of the command line: its subcommands, `--version`, and the order of its arguments."""

import json
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from itertools import takewhile
from types import MappingProxyType
from typing import Any

from jsonargparse import ArgumentParser, Namespace
from lightning.pytorch.cli import LightningArgumentParser

from chargpt_lightning.cli.export import export, export_parser
from chargpt_lightning.cli.flag_help import HelpFormatter, arranged
from chargpt_lightning.cli.help import DESCRIPTION, SUBCOMMANDS, TRAINED, VERSION_LINE
from chargpt_lightning.cli.paths import expand_paths
from chargpt_lightning.cli.play import play, play_parser
from chargpt_lightning.cli.plot import plot, plot_parser
from chargpt_lightning.cli.recipes import find_config, section_of
from chargpt_lightning.cli.shell_completion import PrintCompletion
from chargpt_lightning.cli.suggestions import explained
from chargpt_lightning.utils.console import program_name

_USAGE = "%(prog)s [-c CONFIG] [--GROUP.OPTION VALUE ...]"  # argparse's default lists every option

Handler = tuple[Callable[[str], ArgumentParser], Callable[..., None]]  # makes the parser, given its name; does the work
HANDLERS: dict[str, Handler] = {
    "export": (export_parser, export),
    "plot": (plot_parser, plot),
    "play": (play_parser, play),
}


def subcommands_asked_for(args: list[str]) -> list[str]:
    """Returns the only subcommand that needs a parser, as building one takes time; all if the first word is none."""
    return args[:1] if args[:1] and args[0] in TRAINED else list(TRAINED)


def help_texts(subcommands: list[str]) -> dict[str, Any]:
    """Returns LightningCLI's `parser_kwargs`: the help texts of the program and of these subcommands."""
    return {
        "prog": program_name(),
        "description": DESCRIPTION,
        "formatter_class": HelpFormatter,  # of the subcommands too
        **{name: {"description": SUBCOMMANDS[name], "usage": _USAGE} for name in subcommands},
    }


class Parser(LightningArgumentParser):
    """Lightning's parser with the program's own flags, and the subcommands that need no trainer.

    `subcommands` are their parsers, by name; a subcommand's parser has none.
    """

    subcommands: Mapping[str, ArgumentParser] = MappingProxyType({})
    shows_trainer = False  # whether the help has all flags of the Trainer

    def add_subcommands(self, *args: Any, **kwargs: Any) -> Any:
        """Adds the program's own flags and subcommands; Lightning calls this for the top-level parser only."""
        self.add_argument("--version", action="version", version=VERSION_LINE, help="Print the version and exit.")
        completion = self.add_argument("--print_completion", action=PrintCompletion)
        action = super().add_subcommands(*args, **kwargs)
        for name, (make_parser, _) in HANDLERS.items():
            parser = make_parser(f"{self.prog} {name}")
            action.add_subcommand(name, parser, help=parser.description)
        completion.subcommands = self.subcommands = action.choices
        return action

    def parse_args(self, *args: Any, **kwargs: Any) -> Namespace:  # type: ignore[override]
        """Parses the command line, and expands `~` in the settings that are paths; a subcommand's parser its flags."""
        with explained(self, self.subcommands):
            return expand_paths(super().parse_args(*args, **kwargs))

    def format_help(self, *args: Any) -> str:
        """Returns the help; a subcommand's has this package's settings first."""
        with nullcontext() if self.subcommands else arranged(self, self.shows_trainer):
            return super().format_help(*args)

    def validate(self, namespace: Namespace, skip_unset: bool = True, **kwargs: Any) -> None:
        """Checks settings against their types, null too: jsonargparse takes it for a setting that is not given.

        Raises:
            TypeError: If a setting is not of its type, or is a number beyond 64 bits, which no library accepts.
        """
        super().validate(namespace, skip_unset=False, **kwargs)
        for name, value in namespace.items():
            if isinstance(value, int) and not -(2**63) <= value < 2**63:
                raise TypeError(f"{name} ({value}) must be a number of at most 64 bits")
            if value is None and name.endswith("trainer.default_root_dir"):  # which Lightning's type allows
                raise TypeError(f"{name} (null) must be a directory; if it is not given, runs are saved in `runs`")


def subcommand_first(args: list[str]) -> list[str]:
    """Moves `--config FILE` from before the subcommand, where Lightning expects it too, to right after it."""
    place = next((place for place, arg in enumerate(args) if arg in SUBCOMMANDS), 0)
    if place and args[0].partition("=")[0] in ("-c", "--config"):
        return [args[place], *args[:place], *args[place + 1 :]]
    return args


def configs_first(args: list[str]) -> list[str]:
    """Moves `--config FILE` to right after the subcommand, so that flags always override files.

    A recipe's name is replaced by its file, and a file with a section per subcommand by its section.
    """
    configs, others = [], []
    remaining = iter(args)
    subcommand = next((arg for arg in args if arg in SUBCOMMANDS), "")
    for arg in remaining:
        name, equals, value = arg.partition("=")
        if name not in ("-c", "--config"):
            others.append(arg)
        elif equals or (value := next(remaining, "")):
            configs.append(f"--config={section_of(find_config(value), subcommand, SUBCOMMANDS)}")
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
