"""A CSV file of any size, read and rewritten row by row in constant memory."""

import codecs
import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from chargpt_lightning.utils.atomic import open_whole

LONGEST_ROW = 2**16  # bytes; a longer one is damage, such as a quote that is never closed


def read_columns_of(path: Path) -> list[str]:
    """The column names of a CSV file; empty if the file is missing or empty."""
    if not path.exists():
        return []
    with path.open("rb") as file:
        return _fields(next(_rows(file), b""))


def rewrite(
    source: Path,
    target: Path,
    columns: Sequence[str],
    most: int | None = None,
    more: Iterable[Mapping[str, Any]] = (),
) -> int:
    """Writes the rows of a CSV file into another, or into itself; a crash leaves the old content or the new.

    Args:
        source: The file to read; one that is missing or empty has no rows.
        target: The file to write.
        columns: Columns of the target. Figures of other columns are left out.
        most: How many rows to take from the source; None takes all.
        more: Rows to write after them.

    Returns:
        The number of rows that came from the source.

    Raises:
        OSError: If the target cannot be written; it is then as it was.
    """
    kept = 0
    with open_whole(target) as file:
        writer = csv.writer(codecs.getwriter("utf-8")(file, "surrogateescape"))
        writer.writerow(columns)
        for kept, row in enumerate(islice(_rows_in(source, columns), most), start=1):  # noqa: B007
            file.write(row) if isinstance(row, bytes) else writer.writerow(row)
        writer.writerows([row.get(name, "") for name in columns] for row in more)
    return kept


def _rows_in(source: Path, columns: Sequence[str]) -> Iterator[bytes | list[str]]:
    """The rows after the header: as they are, or as fields where the file has other columns."""
    if not source.exists():
        return
    with source.open("rb") as file:
        rows = _rows(file)
        names = _fields(next(rows, b""))
        for row in rows:
            if names == columns:
                yield row if row.endswith(b"\n") else row + b"\r\n"
            else:
                figures = dict(zip(names, _fields(row), strict=False))
                yield [figures.get(name, "") for name in columns]


def _rows(file: BinaryIO) -> Iterator[bytes]:
    """Cuts a file at the line ends outside of quotes; blank lines are no rows."""
    row = b""
    while line := file.readline(LONGEST_ROW):
        row += line
        if (line.endswith(b"\n") and row.count(b'"') % 2 == 0) or len(row) >= LONGEST_ROW:
            if row.strip():
                yield row
            row = b""
    if row.strip():
        yield row


def _fields(row: bytes) -> list[str]:
    """The fields of a row; one that is not CSV is a single field, so that nothing of it is lost."""
    text = row.decode(errors="surrogateescape")
    try:
        return next(csv.reader([text]), [])
    except csv.Error:
        return [text]
