"""`plot`: runs in one picture."""

import logging
from pathlib import Path

from jsonargparse import ArgumentParser

from chargpt_lightning.utils.errors import ConfigError, require_package
from chargpt_lightning.utils.plotting import draw, write_picture

log = logging.getLogger(__name__)

FORMATS = ("png", "svg", "pdf")


def plot(runs: list[Path], out: Path) -> None:
    """Draws runs over each other.

    Args:
        runs: Directories of runs.
        out: The picture to write; its suffix says in which of the formats.

    Raises:
        ConfigError: If matplotlib is missing, a run has nothing to draw, or the format is another.
    """
    require_package("plot", " ".join(map(str, runs)), "matplotlib")
    if out.suffix.removeprefix(".") not in FORMATS:
        raise ConfigError(f"out ({out}) must end in one of .{', .'.join(FORMATS)}")
    figure = draw(runs)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_picture(figure, out)
    log.info("picture: %s", out)


def plot_parser(prog: str) -> ArgumentParser:
    """What `plot` takes: the arguments of the function."""
    parser = ArgumentParser(
        prog=prog,
        usage="%(prog)s RUN [RUN ...] [--out FILE]",
        description="Draws runs over each other: their losses and learning rates.",
        allow_abbrev=False,
        exit_on_error=False,
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="A run's directory: runs/version_0 for one.")
    parser.add_argument(
        "--out", type=Path, default=Path("curves.png"), help=f"The picture to write: .{', .'.join(FORMATS)}."
    )
    return parser
