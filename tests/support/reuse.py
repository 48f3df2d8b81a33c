"""What the runs of a process share: parsers, and the measured speed of the machine."""

import functools
from typing import Any

import pytest

MADE = ("parser", "_subcommand_parsers", "_subcommand_method_arguments")  # by LightningCLI.setup_parser


def reuse_what_runs_would_make(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replaces what takes a run longer than its updates; curves are left out, except in test_curves.py."""
    for name, replacement in _replacements().items():
        monkeypatch.setattr(f"chargpt_lightning.{name}", replacement)


@functools.cache
def _replacements() -> dict[str, Any]:
    from chargpt_lightning.callbacks import throughput
    from chargpt_lightning.cli.cli import CharCLI

    make, parsers = CharCLI.setup_parser, {}

    def setup_parser(cli: CharCLI, add_subcommands: bool, main: dict, subcommands: dict) -> None:
        key = (main["prog"], cli.model_class, *subcommands)
        if key in parsers:
            vars(cli).update(parsers[key])
            return
        make(cli, add_subcommands, main, subcommands)
        if len(subcommands) == 1:  # printing completions, which needs all, leaves their parsers unusable
            parsers[key] = {name: vars(cli)[name] for name in MADE}

    return {
        "callbacks.throughput.matmul_flop_per_s": functools.cache(throughput.matmul_flop_per_s),
        "cli.cli.CharCLI.setup_parser": setup_parser,
        "trainer.setup.can_draw": lambda: False,
    }
