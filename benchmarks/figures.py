"""Interleaved measurements: their medians, the ratio of each round, and a table in markdown."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

Figures = dict[str, float]  # by name, which ends in the unit
Measured = dict[str, list[Figures]]  # by contender, one entry for each round

HEADER = ("section", "contender", "figure", "median", "range", "ratio", "range of the ratio", "relative to")


@dataclass(frozen=True)
class Row:
    """One figure of one contender."""

    what: str  # the contender
    figure: str  # its name with the unit, or why it was not measured
    values: list[float]  # one for each round
    against: str = ""  # the rival
    ratios: list[float] = field(default_factory=list)  # the contender's value divided by the rival's, for each round


def not_measured(what: str, reason: str) -> Row:
    """Returns the row of a contender that could not be measured."""
    return Row(what, f"not measured: {reason}", [])


def interleave(contenders: Mapping[str, Callable[[], Figures]], rounds: int) -> Measured:
    """Measures each contender once per round, so that whatever slows the machine down affects all of them."""
    measured: Measured = {name: [] for name in contenders}
    for number in range(1, rounds + 1):
        for name, measure in contenders.items():
            print(f"{name}, round {number} of {rounds}", end=": ", flush=True, file=sys.stderr)
            measured[name].append(measure())
            print(measured[name][-1], file=sys.stderr)  # an interrupted run keeps them
    return measured


def compare(measured: Measured, figures: Sequence[str], pairs: Sequence[tuple[str, str]] = ()) -> list[Row]:
    """Returns a row for each contender, each of its figures, and each of its rivals.

    Args:
        measured: Figures of each contender, from `interleave`.
        figures: Names of figures; those that a contender does not have are skipped.
        pairs: Contenders with a rival; pairs whose rival was not measured are skipped.
    """
    rows = []
    for name, rounds in measured.items():
        rivals = [rival for contender, rival in pairs if contender == name and rival in measured]
        for figure in (figure for figure in figures if figure in rounds[0]):
            values = [of_a_round[figure] for of_a_round in rounds]
            for rival in rivals or [""]:
                rival_values = [of_a_round[figure] for of_a_round in measured.get(rival, [])]
                ratios = [value / other for value, other in zip(values, rival_values, strict=True)] if rival else []
                rows.append(Row(name, figure, values, rival, ratios))
    return rows


def table(sections: Mapping[str, list[Row]]) -> str:
    """Returns all rows as a table in GitHub's markdown."""
    cells = [(section, *_cells(row)) for section, rows in sections.items() for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in (HEADER, ["---"] * len(HEADER), *cells))


def _cells(row: Row) -> tuple[str, ...]:
    return (row.what, row.figure, *_median_and_range(row.values), *_median_and_range(row.ratios), row.against)


def _median_and_range(values: list[float]) -> tuple[str, str]:
    if not values:
        return "", ""
    return _number(median(values)), f"{_number(min(values))} to {_number(max(values))}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
