"""The ladder as a table and a picture, from results of the benchmarks.

python -m benchmarks.ladder_picture PICTURE.png RESULTS.json...
"""

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

from benchmarks.figures import Row
from benchmarks.ladder import NANOGPT, NANOGPT_BASE, SECTIONS

Ladder = dict[str, dict[str, list[float]]]  # the values of each figure of each contender

COLORS = {"float32": "C1", "bf16": "C0", "nanoGPT": "0.5"}
TICKS = {5: "5 s", 20: "20 s", 60: "1 min", 300: "5 min", 1800: "30 min", 7200: "2 h", 28_800: "8 h"}
HEADER = ("recipe", "seeds", "time", "of nanoGPT's", "exact val loss", "mean + 2 sd", "highest", "train loss")


def rows_of(reports: Iterable[Mapping[str, Any]]) -> list[Row]:
    """Returns the rows of the ladder in results files."""
    sections = {name: rows for report in reports for name, rows in report["sections"].items()}
    return [Row(**row) for name in SECTIONS for row in sections.get(name, [])]


def ladder(rows: Iterable[Row]) -> Ladder:
    """Groups rows by contender."""
    found: Ladder = {}
    for row in rows:
        found.setdefault(row.what, {})[row.figure] = row.values
    return found


def table(found: Ladder) -> str:
    """Returns the ladder as a table in GitHub's markdown."""
    rival_s = median(found[NANOGPT]["process_s"]) if NANOGPT in found else None
    lines = [_line(name, figures, rival_s) for name, figures in found.items()]
    return "\n".join("| " + " | ".join(line) + " |" for line in (HEADER, ["---"] * len(HEADER), *lines))


def _line(name: str, figures: dict[str, list[float]], rival_s: float | None) -> tuple[str, ...]:
    losses, process_s = figures["val_loss"], median(figures["process_s"])
    of_rival = f"{process_s / rival_s:.3f}" if rival_s else ""
    spread = (f"{fmean(losses) + 2 * stdev(losses):.3f}", f"{max(losses):.3f}") if len(losses) > 1 else ("", "")
    train = f"{fmean(figures['train_loss']):.3f}" if "train_loss" in figures else ""
    return (name, str(len(losses)), duration(process_s), of_rival, f"{fmean(losses):.3f}", *spread, train)


def duration(seconds: float) -> str:
    """Returns a time in the unit in which it is read best: `7.1 s`, `6.2 min`, `11 h`."""
    if seconds < 100:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def draw(found: Ladder, path: Path) -> None:
    """Draws exact val loss over the logarithm of the time: a dot for each seed, a dashed line to what is computed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), dpi=120, layout="constrained")
    axes = figure.subplots()
    labels: dict[str, tuple[float, float]] = {}
    for name, figures in found.items():
        losses, process_s = figures["val_loss"], median(figures["process_s"])
        recipe, _, precision = name.partition(", ")
        color, computed = COLORS.get(precision, COLORS["nanoGPT"]), name == NANOGPT_BASE
        axes.plot(
            [process_s] * len(losses), losses, "o", color=color, alpha=0.5, fillstyle="none" if computed else "full"
        )
        label = name if computed else recipe  # one for all precisions, beside the slowest
        labels[label] = max((process_s, fmean(losses)), labels.get(label, (0.0, 0.0)))
        if computed:
            axes.axhline(losses[0], color=color, linewidth=1, linestyle="--")
    for recipe, point in labels.items():
        right = point[0] > 1000
        axes.annotate(
            recipe,
            point,
            (-8 if right else 8, 6 if right else -4),
            textcoords="offset points",
            ha="right" if right else "left",
        )
    axes.set(xscale="log", xlabel="time of the complete command", ylabel="exact val loss, nats per character")
    axes.set_xticks(list(TICKS), list(TICKS.values()))
    axes.grid(alpha=0.3)
    axes.legend([axes.plot([], [], "o", color=color)[0] for color in COLORS.values()], list(COLORS))
    figure.savefig(path)


if __name__ == "__main__":
    picture, *results = map(Path, sys.argv[1:])
    measured = ladder(rows_of(json.loads(path.read_text(encoding="utf-8")) for path in results))
    print(table(measured))
    draw(measured, picture)
