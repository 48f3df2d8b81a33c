"""Explains a command line that cannot be parsed, and names the flag that was probably meant."""

import re
from argparse import ArgumentError
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches

from jsonargparse import ArgumentParser
from lightning.pytorch import callbacks, loggers

from chargpt_lightning.checkpoints.training_settings import COUNTS
from chargpt_lightning.cli.help import SUBCOMMANDS, TOOLS
from chargpt_lightning.cli.import_policy import DENIAL
from chargpt_lightning.cli.nanogpt_flags import OTHERS, RENAMED
from chargpt_lightning.utils.console import program_name

NANOGPT = sorted({*RENAMED, *OTHERS, *COUNTS})
NO_FLAG = r"unrecognized arguments: (\S+)"
NO_SETTING = r"Subcommand '(\w+)' does not accept option '(\S+)'"  # in a config file
NO_CONFIG = r"Parser key \"(model|data)\": Unable to load config '(.+?)'"
NO_CLASS = r"Parser key \"(trainer\.callbacks|trainer\.logger)\".* Expected a dot import path string: (\S+)"
CLASS_ERROR = r"Parser key \"(trainer\.\w+)\".* Problem with given class_path '(.+?)': (.+?)(?: - |$)"
NO_SUBCOMMAND = r'expected "subcommand" to be one of'
CLASSES = {"trainer.callbacks": callbacks.__all__, "trainer.logger": [*loggers.__all__, "TensorBoard", "Wandb"]}
OF_ONES_OWN = r"(optimizer|lr_scheduler)\b.*|(model|data)\.class_path"
USUAL = {"lr": "model.learning_rate", "steps": "trainer.max_steps"}  # names in other programs
EXTENDING = "a network, data module, optimizer or scheduler of your own needs a few lines: docs/extending.md"


@contextmanager
def explained(parser: ArgumentParser, subcommands: Mapping[str, ArgumentParser]) -> Iterator[None]:
    """Explains errors of parsing in the context.

    Args:
        parser: A parser; if it is a subcommand's, the last word of its `prog` is the name.
        subcommands: The parsers of its own subcommands, by name.

    Raises:
        ArgumentError: The same error, with a message that names the mistake and what to type instead.
    """
    try:
        yield
    except ArgumentError as error:
        flags = {name: flags_of(each) for name, each in {parser.prog.split()[-1]: parser, **subcommands}.items()}
        raise ArgumentError(None, explanation(" ".join(str(error).split()), flags)) from error


def flags_of(parser: ArgumentParser) -> list[str]:
    """Returns the names of a parser's flags, without dashes."""
    options = [option for action in parser._actions for option in action.option_strings]
    return [option[2:] for option in options if option.startswith("--") and not option.endswith(("+", ".help"))]


def explanation(message: str, flags: Mapping[str, list[str]]) -> str:
    """Returns what to type instead of what a parser refuses; other messages are returned unchanged.

    Args:
        message: The parser's; that an import is denied is explained elsewhere (`import_policy`).
        flags: Names of flags without dashes, by subcommand; the first is the parser's.
    """
    subcommand = next(iter(flags))
    if re.search(DENIAL, message):
        return message
    if match := re.search(NO_CONFIG, message):
        group, given = match.groups()
        text = f" (a text is --data.text {given})" if group == "data" else ""
        return f"--{group} ({given}) must be a YAML file with settings of {group}{text}; {EXTENDING}"
    if match := re.search(NO_SETTING, message):
        subcommand, name = match.groups()
        return _no_setting(name.removeprefix(f"{subcommand}."), subcommand, flags.get(subcommand, []))
    if match := re.search(NO_FLAG, message):
        if not match[1].startswith("-"):
            return _stray(match[1], subcommand)
        others = [] if subcommand in TOOLS else NANOGPT
        return _no_setting(match[1].partition("=")[0], subcommand, flags[subcommand] + others)
    if match := re.search(NO_CLASS, message):
        return _no_class(*match.groups())
    if match := re.search(CLASS_ERROR, message):
        return "{} ({}): {}".format(*match.groups())
    if re.search(NO_SUBCOMMAND, message):
        return f"the settings must be followed by what to do with them: {', '.join(SUBCOMMANDS)}"
    return message


def _no_setting(given: str, subcommand: str, flags: list[str]) -> str:
    name, dashes = given.lstrip("-"), "--" if given.startswith("-") else ""
    if re.fullmatch(OF_ONES_OWN, name):
        return f"{given} is no setting of {subcommand}, whose --model.optimizer is adamw or muon; {EXTENDING}"
    guess = None if name.endswith(".help") else closest(name, flags)
    advice = f"did you mean {dashes}{guess}?" if guess else _help(subcommand)
    return f"{given} is no setting of {subcommand}; {advice}"


def _no_class(setting: str, given: str) -> str:
    guess = get_close_matches(given, CLASSES[setting], n=1)
    advice = f"; did you mean {guess[0]}?" if guess else ""
    return f"{setting} ({given}) must be the name of a class of Lightning's, or the import path of another{advice}"


def closest(name: str, flags: list[str]) -> str | None:
    """Returns the flag that is spelled nearly like a name: completely, or after its last dot; None if there is none."""
    ends = {flag.rpartition(".")[2]: flag for flag in reversed(flags)}
    end = name.rpartition(".")[2]
    if end in USUAL:
        return USUAL[end]
    if end in ends:
        return ends[end]
    whole = get_close_matches(name, flags, n=1)
    similar = whole or [ends[match] for match in get_close_matches(end, ends, n=1)]
    return similar[0] if similar else None


def _stray(given: str, subcommand: str) -> str:
    if given.endswith((".yaml", ".yml")):
        return f"a config file ({given}) must follow --config: {program_name()} {subcommand} --config {given}"
    return f"{given!r} must follow a flag; {_help(subcommand)}"


def _help(subcommand: str) -> str:
    return f"`{program_name()} {subcommand} --help` lists all settings"
