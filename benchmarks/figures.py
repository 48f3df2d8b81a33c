"""Figures that were taken in turns: medians, the ratios of each round, a table."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

Figures = dict[str, float]  # by a name that ends in the unit
Measured = dict[str, list[Figures]]  # by contender, a round each

HEADER = ("section", "what", "figure", "median", "spread", "ratio", "range of the ratio", "to")


@dataclass(frozen=True)
class Row:
    """One figure of one contender."""

    what: str  # the contender
    figure: str  # with its unit; or why there is none
    values: list[float]  # one of each round
    against: str = ""  # the rival
    ratios: list[float] = field(default_factory=list)  # the contender's value over the rival's, of each round


def not_measured(what: str, reason: str) -> Row:
    """Stands in the table for a contender that could not be had."""
    return Row(what, f"not measured: {reason}", [])


def interleave(contenders: Mapping[str, Callable[[], Figures]], rounds: int) -> Measured:
    """Takes the figures in turns, so that whatever slows the machine down meets all contenders."""
    measured: Measured = {name: [] for name in contenders}
    for number in range(1, rounds + 1):
        for name, measure in contenders.items():
            print(f"{name}, round {number} of {rounds}", file=sys.stderr)
            measured[name].append(measure())
    return measured


def compare(measured: Measured, figures: Sequence[str], pairs: Sequence[tuple[str, str]] = ()) -> list[Row]:
    """A row for each contender, each of the figures that it has, and each rival that was measured."""
    rows = []
    for name, rounds in measured.items():
        rivals = [theirs for ours, theirs in pairs if ours == name and theirs in measured]
        for figure in (figure for figure in figures if figure in rounds[0]):
            values = [of_a_round[figure] for of_a_round in rounds]
            for rival in rivals or [""]:
                theirs = [of_a_round[figure] for of_a_round in measured.get(rival, [])]
                ratios = [mine / its for mine, its in zip(values, theirs, strict=True)] if rival else []
                rows.append(Row(name, figure, values, rival, ratios))
    return rows


def table(sections: Mapping[str, list[Row]]) -> str:
    """All rows as a table in GitHub's markdown."""
    cells = [(section, *_cells(row)) for section, rows in sections.items() for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in (HEADER, ["---"] * len(HEADER), *cells))


def _cells(row: Row) -> tuple[str, ...]:
    return (row.what, row.figure, *_middle(row.values), *_middle(row.ratios), row.against)


def _middle(values: list[float]) -> tuple[str, str]:
    """The median, and how far the values lie apart."""
    if not values:
        return "", ""
    return _number(median(values)), f"{_number(min(values))} to {_number(max(values))}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
