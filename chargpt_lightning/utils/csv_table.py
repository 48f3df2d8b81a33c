"""Reads and rewrites CSV files of any size row by row, in constant memory."""

import codecs
import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from chargpt_lightning.utils.atomic import open_atomically

MAX_ROW_BYTES = 2**16  # bytes; a longer row is damaged, for example by a quote that is never closed


def read_header(path: Path) -> list[str]:
    """Returns the column names of a CSV file; an empty list if the file is missing or empty."""
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
    """Atomically writes the rows of a CSV file to another file, or to itself.

    Args:
        source: The file to read; a missing or empty file has no rows.
        target: The file to write.
        columns: Columns of the target. Values of other columns are left out.
        most: Maximum number of rows to copy from the source; None copies all.
        more: Rows to append.

    Returns:
        The number of rows copied from the source.

    Raises:
        OSError: If the target cannot be written; its old content is unchanged.
    """
    kept = 0
    with open_atomically(target) as file:
        writer = csv.writer(codecs.getwriter("utf-8")(file, "surrogateescape"))
        writer.writerow(columns)
        for kept, row in enumerate(islice(_rows_in(source, columns), most), start=1):  # noqa: B007
            file.write(row) if isinstance(row, bytes) else writer.writerow(row)
        writer.writerows([row.get(name, "") for name in columns] for row in more)
    return kept


def _rows_in(source: Path, columns: Sequence[str]) -> Iterator[bytes | list[str]]:
    """Yields the rows below the header: unchanged bytes if the file has these columns, otherwise lists of fields."""
    if not source.exists():
        return
    with source.open("rb") as file:
        rows = _rows(file)
        names = _fields(next(rows, b""))
        for row in rows:
            if names == columns:
                yield row if row.endswith(b"\n") else row + b"\r\n"
            else:
                values = dict(zip(names, _fields(row), strict=False))
                yield [values.get(name, "") for name in columns]


def _rows(file: BinaryIO) -> Iterator[bytes]:
    """Yields the rows of a file, which end at line ends outside of quotes; skips blank lines."""
    row = b""
    while line := file.readline(MAX_ROW_BYTES):
        row += line
        if (line.endswith(b"\n") and row.count(b'"') % 2 == 0) or len(row) >= MAX_ROW_BYTES:
            if row.strip():
                yield row
            row = b""
    if row.strip():
        yield row


def _fields(row: bytes) -> list[str]:
    """Returns the fields of a row; a row that is not valid CSV is kept as a single field."""
    text = row.decode(errors="surrogateescape")
    try:
        return next(csv.reader([text]), [])
    except csv.Error:
        return [text]
