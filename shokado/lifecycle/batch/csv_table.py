"""CSV files, as `/invocations` takes them: UTF-8, commas, a header, a row a line unless a text in quotes has more.

Python's reader says what a row is, there and here. Where nothing is in quotes, lines are rows, and Arrow reads them ten
times faster; its cells are the same texts. Blank lines are no rows. A row that cannot be read is broken, and no other.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import IO, Any

from shokado.lifecycle.batch.batch_plan import RowBlock
from shokado.lifecycle.batch.table_slice import SLICE_ROWS, Header, TableSlice
from shokado.lifecycle.errors import BatchRefused

_MARK = "\ufeff"


class CsvTable:
    """The table in a CSV file."""

    def __init__(self, name: str) -> None:
        """`name` is what errors call the file."""
        self._name = name

    def header(self, file: IO[bytes]) -> Header:
        import pyarrow

        record = next(self._records(file), b"")
        names, wrong = _cells_of(record, _MARK)
        if wrong or not names:
            raise BatchRefused(f"{self._name}: its first line is no header of a CSV file: {wrong or 'it is empty'}.")
        if b"\r" in record.rstrip(b"\r\n"):
            raise BatchRefused(f"{self._name}: its lines end with CR alone. Write it with LF or CRLF.")
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise BatchRefused(f"{self._name} has the column {twice!r} twice.")
        return Header(dict.fromkeys(names, pyarrow.string()))

    def cut(self, file: IO[bytes], rows: int) -> Iterator[tuple[int, int, int]]:
        records = self._records(file)
        start = stop = len(next(records, b""))
        count = 0
        for record in records:
            stop += len(record)
            count += bool(record.strip(b"\r\n"))
            if count == rows:
                yield start, stop, count
                start, count = stop, 0
        if count:
            yield start, stop, count

    def slices(self, file: IO[bytes], block: RowBlock, columns: list[str]) -> Iterator[TableSlice]:
        names = list(self.header(file).types)
        file.seek(block.start)
        content = file.read(block.stop - block.start)
        found = _read_quickly(content, names, columns, block.rows)
        if found is None:
            found = self._read(content, names, columns)
        arrays, broken, count = found
        if count != block.rows or len(content) != block.stop - block.start:
            raise BatchRefused(
                f"{self._name} has changed since the batch was planned. Name another folder to write to."
            )
        for start in range(0, count, SLICE_ROWS):
            stop = min(start + SLICE_ROWS, count)
            yield TableSlice(
                block.first_row + start,
                stop - start,
                {name: array.slice(start, stop - start) for name, array in arrays.items()},
                frozenset(arrays),
                {row - start: why for row, why in broken.items() if start <= row < stop},
            )

    def _read(
        self, content: bytes, names: Sequence[str], columns: Sequence[str]
    ) -> tuple[dict[str, Any], dict[int, str], int]:
        """The wanted columns, what is wrong with rows by position, and how many rows there are."""
        import pyarrow

        positions = [names.index(name) for name in columns]
        values: list[list[str | None]] = [[] for _ in columns]
        broken: dict[int, str] = {}
        count = 0
        for record in self._records(io.BytesIO(content)):
            if not record.strip(b"\r\n"):
                continue
            cells, wrong = _cells_of(record)
            if not wrong and len(cells) != len(names):
                wrong = f"it has {len(cells)} values for {len(names)} columns"
            if wrong:
                broken[count] = wrong
            for column, position in zip(values, positions, strict=True):
                column.append(None if wrong else cells[position])
            count += 1
        arrays = {name: pyarrow.array(column, pyarrow.string()) for name, column in zip(columns, values, strict=True)}
        return arrays, broken, count

    def _records(self, file: Iterable[bytes]) -> Iterator[bytes]:
        """The lines of each row, and blank lines. Raises `BatchRefused` where a text in quotes does not end."""
        lines = iter(file)
        number = 0
        for line in lines:
            number += 1
            if b'"' not in line:
                yield line
                continue
            taken: list[bytes] = []
            try:
                next(csv.reader(_decoded(chain([line], lines), taken), strict=True), None)
            except csv.Error as error:
                # A single line that is no row is one that is broken; beyond it, nobody knows where rows begin.
                if len(taken) > 1:
                    raise BatchRefused(
                        f"{self._name}: line {number} begins a text in quotes, which goes wrong {len(taken) - 1} lines "
                        f"further: {error}."
                    ) from None
            yield b"".join(taken)
            number += len(taken) - 1


def _decoded(lines: Iterable[bytes], taken: list[bytes]) -> Iterator[str]:
    """The lines as text, whatever their bytes, each after it was put to those that were taken."""
    for line in lines:
        taken.append(line)
        yield line.decode("utf-8", "replace")


def _cells_of(record: bytes, mark: str = "") -> tuple[list[str], str]:
    """The cells of a row, and what is wrong with it, if anything is."""
    try:
        text = record.decode("utf-8").removeprefix(mark)
        return next(csv.reader(io.StringIO(text, newline=""), strict=True), []), ""
    except UnicodeDecodeError as error:
        return [], f"it is not UTF-8: {error.reason} at its byte {error.start}"
    except csv.Error as error:
        return [], f"it is not CSV: {error}"


def _read_quickly(
    content: bytes, names: Sequence[str], columns: Sequence[str], rows: int
) -> tuple[dict[str, Any], dict[int, str], int] | None:
    """What `CsvTable._read` gives, by Arrow; None where that might read something else."""
    import pyarrow
    from pyarrow import csv as arrow_csv

    if b'"' in content or b"\0" in content or content.count(b"\r") != content.count(b"\r\n") or not columns:
        return None
    try:
        table = arrow_csv.read_csv(
            io.BytesIO(content),
            arrow_csv.ReadOptions(column_names=list(names), use_threads=False, block_size=len(content) + 1),
            arrow_csv.ParseOptions(quote_char=False, ignore_empty_lines=True),
            arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(names, pyarrow.string()),
                include_columns=list(columns),
                strings_can_be_null=False,
            ),
        )
    except pyarrow.ArrowInvalid:
        return None
    if table.num_rows != rows:
        return None
    return {name: table.column(name).combine_chunks() for name in columns}, {}, rows
