"""The subcommand `plot`: plots the curves of runs into one figure."""

import logging
from pathlib import Path

from jsonargparse import ArgumentParser

from chargpt_lightning.cli.help import SUBCOMMANDS
from chargpt_lightning.utils.errors import ConfigError, require_package
from chargpt_lightning.utils.plotting import draw, save_figure

log = logging.getLogger(__name__)

FORMATS = ("png", "svg", "pdf")


def plot(runs: list[Path], out: Path) -> None:
    """Plots runs into one figure.

    Args:
        runs: Directories of runs.
        out: The file to write; its suffix, one of FORMATS, gives the format.

    Raises:
        ConfigError: If matplotlib is missing, a run has no losses, or the format is not supported.
    """
    require_package("plot", " ".join(map(str, runs)), "matplotlib")
    if out.suffix.removeprefix(".") not in FORMATS:
        raise ConfigError(f"out ({out}) must end in one of .{', .'.join(FORMATS)}")
    figure = draw(runs)
    out.parent.mkdir(parents=True, exist_ok=True)
    save_figure(figure, out)
    log.info("plot: %s", out)


def plot_parser(prog: str) -> ArgumentParser:
    """Returns the parser of `plot`, whose arguments are those of the function."""
    parser = ArgumentParser(
        prog=prog,
        usage="%(prog)s RUN [RUN ...] [--out FILE]",
        description=SUBCOMMANDS["plot"],
        allow_abbrev=False,
        exit_on_error=False,
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="A run's directory, such as runs/version_0.")
    parser.add_argument(
        "--out", type=Path, default=Path("curves.png"), help=f"The file to write: .{', .'.join(FORMATS)}."
    )
    return parser
