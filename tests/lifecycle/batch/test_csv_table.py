"""Blocks of a CSV file: together they are the rows that Python's reader finds in the whole file, each once."""

import csv
import io
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shokado.lifecycle.batch import csv_table
from shokado.lifecycle.batch.batch_plan import RowBlock
from shokado.lifecycle.batch.csv_table import CsvTable
from shokado.lifecycle.batch.table_slice import SLICE_ROWS, TableSlice
from shokado.lifecycle.errors import BatchRefused

CELLS = st.text(alphabet=st.sampled_from('ab 1.5,"\né;'), max_size=6)
ROWS = st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=12)


def blocks_of(content: bytes, rows: int) -> Iterator[RowBlock]:
    first_row = 0
    for start, stop, count in CsvTable("t.csv").cut(io.BytesIO(content), rows):
        yield RowBlock(0, first_row, count, start, stop)
        first_row += count


def slices_of(content: bytes, rows: int, columns: list[str]) -> list[TableSlice]:
    table = CsvTable("t.csv")
    return [part for block in blocks_of(content, rows) for part in table.slices(io.BytesIO(content), block, columns)]


def read(content: bytes, rows: int, columns: list[str]) -> tuple[list[tuple[Any, ...]], dict[int, str]]:
    """All rows, and what is wrong with some, by their numbers."""
    found: list[tuple[Any, ...]] = []
    broken: dict[int, str] = {}
    for part in slices_of(content, rows, columns):
        assert part.first_row == len(found)
        broken |= {part.first_row + row: why for row, why in part.broken.items()}
        found += zip(*(part.columns[name].to_pylist() for name in columns), strict=True)
    return found, broken


@given(ROWS, st.integers(1, 5), st.sampled_from(["\n", "\r\n"]), st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
@example([("a", "b")], 1, "\r\n", csv.QUOTE_MINIMAL)
def test_rows_are_those_of_pythons_reader(rows: list[tuple[str, str]], size: int, end: str, quoting: Any) -> None:
    file = io.StringIO(newline="")
    csv.writer(file, lineterminator=end, quoting=quoting).writerows([("x", "y"), *rows])
    content = file.getvalue().encode()
    found, broken = read(content, size, ["y", "x"])
    assert found == [(y, x) for x, y in rows]
    assert not broken


@given(st.lists(st.tuples(st.text("ab1.-e ", max_size=5), st.text("01.x", max_size=5)), min_size=1, max_size=9))
def test_arrow_reads_the_same_cells_where_nothing_is_in_quotes(rows: list[tuple[str, str]]) -> None:
    content = "".join(f"{x},{y}\n" for x, y in rows).encode()
    quick = csv_table._read_quickly(content, ["x", "y"], ["x", "y"], len(rows))
    slow = CsvTable("t.csv")._read(content, ["x", "y"], ["x", "y"])
    assert quick is not None
    assert [quick[0][name].to_pylist() for name in "xy"] == [slow[0][name].to_pylist() for name in "xy"]
    assert (quick[1], quick[2]) == (slow[1], slow[2])


def test_blank_lines_are_no_rows_and_a_mark_is_no_part_of_a_name() -> None:
    content = "\ufeffx,y\n\n1,2\n\r\n3,4".encode()
    assert list(CsvTable("t.csv").header(io.BytesIO(content)).types) == ["x", "y"]
    for size in (1, 2, 9):
        assert read(content, size, ["x", "y"]) == ([("1", "2"), ("3", "4")], {})


def test_a_row_that_cannot_be_read_is_broken_and_no_other() -> None:
    content = b'x,y\n1,2\n1,2,3\n\xff,2\n"a"b,2\n1\n5,6\n'
    for size in (1, 3, 9):
        found, broken = read(content, size, ["x"])
        assert found == [("1",), (None,), (None,), (None,), (None,), ("5",)]
        assert broken[1] == "it has 3 values for 2 columns"
        assert "not UTF-8" in broken[2]
        assert "not CSV" in broken[3]
        assert set(broken) == {1, 2, 3, 4}


def test_a_text_in_quotes_that_does_not_end_refuses_the_file_and_names_the_line() -> None:
    content = b'x,y\n1,2\n"3,4\n5,6\n'
    with pytest.raises(BatchRefused, match="line 3 begins a text in quotes"):
        list(blocks_of(content, 1))


def test_a_file_that_has_changed_since_is_refused() -> None:
    content = b"x,y\n1,2\n3,4\n"
    (block,) = blocks_of(content, 9)
    for changed in (b"x,y\n1,23,4\n\n", b"x,y\n1,2\n"):
        with pytest.raises(BatchRefused, match="has changed"):
            list(CsvTable("t.csv").slices(io.BytesIO(changed), block, ["x"]))


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"", "no header"), (b"\n\n", "no header"), (b"x,x\n1,2\n", "'x' twice"), (b"x,y\r1,2\r", "CR alone")],
)
def test_what_is_no_header_is_refused(content: bytes, why: str) -> None:
    with pytest.raises(BatchRefused, match=why):
        CsvTable("t.csv").header(io.BytesIO(content))


def test_a_block_is_read_in_slices_that_know_their_broken_rows() -> None:
    lines = [b"1,2"] * (SLICE_ROWS + 3)
    lines[SLICE_ROWS + 1] = b"1,2,3"
    first, second = slices_of(b"x,y\n" + b"\n".join(lines), 10**6, ["y"])
    assert (first.first_row, first.rows, first.broken) == (0, SLICE_ROWS, {})
    assert (second.first_row, second.rows, set(second.broken)) == (SLICE_ROWS, 3, {1})
