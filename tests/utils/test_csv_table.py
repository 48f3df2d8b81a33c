"""CSV files read and rewritten row by row: each row is kept as it is, damaged ones too."""

from pathlib import Path

import pytest
from support.metrics_csv import COLUMNS, CSV, peak_mb, write_long_file

from chargpt_lightning.utils.csv_table import MAX_ROW_BYTES, read_header, rewrite

TABLE = Path("table.csv")


@pytest.mark.parametrize(
    ("content", "columns"),
    [(None, []), (b"", []), (b"a,b\r\n1,2\r\n", ["a", "b"]), (b'"a,b",c\n', ["a,b", "c"])],
    ids=["missing", "empty", "plain", "quoted"],
)
def test_the_columns_are_those_of_the_first_row(content, columns):
    if content is not None:
        TABLE.write_bytes(content)
    assert read_header(TABLE) == columns


def test_a_missing_file_has_no_rows_to_rewrite():
    assert rewrite(Path("none.csv"), Path("new.csv"), ["a", "b"], more=[{"a": 1}]) == 0
    assert Path("new.csv").read_bytes() == b"a,b\r\n1,\r\n"


def test_rows_with_the_same_columns_are_kept_byte_for_byte():
    rows = b'1,2\n\xff,"x\ny"\r\n3,4,5\r\n\x00\r\n'
    TABLE.write_bytes(b"a,b\r\n" + rows)
    assert rewrite(TABLE, TABLE, ["a", "b"], more=[{"b": 6}]) == 4
    assert TABLE.read_bytes() == b"a,b\r\n" + rows + b",6\r\n"


def test_no_more_rows_are_kept_than_asked_for():
    TABLE.write_bytes(b"a\r\n1\r\n2\r\n3\r\n")
    assert rewrite(TABLE, TABLE, ["a"], most=2) == 2
    assert TABLE.read_bytes() == b"a\r\n1\r\n2\r\n"


def test_fields_move_to_the_new_columns_and_the_others_are_left_out():
    TABLE.write_bytes(b"a,b,c\r\n1,2,3\r\n4\r\n")
    assert rewrite(TABLE, TABLE, ["c", "new", "a"]) == 2
    assert TABLE.read_bytes() == b"c,new,a\r\n3,,1\r\n,,4\r\n"


def test_a_quote_that_is_never_closed_does_not_make_one_row_of_the_rest():
    TABLE.write_bytes(b'a\r\n"1\r\n' + b"2\r\n" * MAX_ROW_BYTES)
    assert rewrite(TABLE, TABLE, ["a"]) > MAX_ROW_BYTES / 2, "a third of the lines is in the longest row"


def test_rewriting_takes_no_memory_for_the_rows():
    write_long_file(20_000)
    assert peak_mb(lambda: rewrite(CSV, CSV, COLUMNS)) < 1
    assert peak_mb(lambda: rewrite(CSV, CSV, ["new", *COLUMNS])) < 1
