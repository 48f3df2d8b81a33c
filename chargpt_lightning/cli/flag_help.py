"""The help of `fit`, `validate` and `predict`: this package's settings first, then what most runs need of Lightning's.

Lightning's texts describe the Trainer in general, and are in places wrong for this program.
"""

import re
from argparse import SUPPRESS, Action
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jsonargparse import ArgumentParser, DefaultHelpFormatter

TITLES = {  # of the groups, in order
    "": "options",
    "ckpt_path": "checkpoint",
    "model": "the network and how it is trained",
    "data": "the text and its batches",
    "sample": "samples",
    "trainer": "Lightning's Trainer, as far as most runs need it; `--help_trainer` lists everything",
}
TEXTS = {
    "config": "A YAML file with settings, or a recipe's name. Flags override it.",
    "print_config": "Print all settings as YAML and exit.",
    "seed_everything": "Seed of weights, windows and dropout: a number from 0 to 2**32 - 1.",
    "ckpt_path": (
        "`last` or `best` of the newest run below trainer.default_root_dir, a run's directory, or a file or folder: "
        "this package's, nanoGPT's or Hugging Face's. `fit` resumes there, `validate` and `predict` use `best` if "
        "nothing is given."
    ),
    "sample.prompt": "Text that every sample continues; `FILE:name` reads it from a file. The default is a newline.",
    "trainer.max_steps": "Number of updates.",
    "trainer.max_time": "Time after which the run is saved and stops, as DD:HH:MM:SS.",
    "trainer.val_check_interval": "Batches from one evaluation, and checkpoint, to the next.",
    "trainer.log_every_n_steps": "Updates from one row of metrics.csv to the next.",
    "trainer.accumulate_grad_batches": "Batches per update.",
    "trainer.gradient_clip_val": "Largest norm of the gradient; a larger one is scaled down to it.",
    "trainer.accelerator": "cpu, gpu, mps or auto.",
    "trainer.devices": "Number of devices.",
    "trainer.precision": "32-true, bf16-mixed, 16-mixed, ...; by default bf16-mixed where it is fast.",
    "trainer.default_root_dir": "Directory of the runs.",
    "trainer.logger": "TensorBoard or Wandb, in addition to metrics.csv.",
}


class HelpFormatter(DefaultHelpFormatter):
    """Leaves out the lists of all classes that a setting could name."""

    def _expand_help(self, action: Action) -> str:
        return re.sub(r", known subclasses: [^)]*", "", super()._expand_help(action))


class HelpTrainer(Action):
    """`--help_trainer`: the help with all of Lightning's flags."""

    def __init__(self, option_strings: list[str], dest: str) -> None:
        text = "Show this help message with all flags of Lightning's Trainer and exit."
        super().__init__(option_strings, dest=SUPPRESS, default=SUPPRESS, nargs=0, help=text)

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        """Prints the help and ends the process."""
        parser.shows_trainer = True
        parser.print_help()
        parser.shows_trainer = False
        parser.exit()


@contextmanager
def arranged(parser: ArgumentParser, shows_trainer: bool) -> Iterator[None]:
    """Orders and describes a subcommand's flags in the context.

    Args:
        parser: The parser of the subcommand.
        shows_trainer: Whether to show all flags of the Trainer.
    """
    groups, texts = parser._action_groups, [(action, action.help) for action in parser._actions]
    parser._action_groups = sorted(groups, key=lambda group: [*TITLES].index(_room(group._group_actions)))
    for group in groups:
        group.title = TITLES[_room(group._group_actions)]
    for action in parser._actions:
        action.help = _text(action, shows_trainer)
    try:
        yield
    finally:
        parser._action_groups = groups
        for action, text in texts:
            action.help = text


def _room(actions: list[Action]) -> str:
    """Returns the key of TITLES that a group's first action belongs to."""
    first = actions[0].dest.partition(".")[0] if actions else ""
    return first if first in TITLES else ""


def _text(action: Action, shows_trainer: bool) -> str | None:
    room, _, name = action.dest.partition(".")
    is_link = any(not option.startswith("-") for option in action.option_strings)
    is_file = room in TITLES and not name and room != "ckpt_path"  # `--model FILE`, which `--config` replaces
    is_rare = room == "trainer" and action.dest not in TEXTS and not shows_trainer
    if is_link or is_file or is_rare or action.dest.endswith(".help"):
        return SUPPRESS
    return TEXTS.get(action.dest, action.help)
