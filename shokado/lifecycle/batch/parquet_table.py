"""Parquet files. A block is some row groups, one after the other, as no reader need decode less than one."""

from collections.abc import Iterator
from typing import IO, Any

from shokado.lifecycle.batch.batch_plan import RowBlock
from shokado.lifecycle.batch.table_slice import SLICE_ROWS, Header, TableSlice
from shokado.lifecycle.errors import BatchRefused

_BUFFER_BYTES = 2**20
"""What is read of a column at once, so that a row group of any size is not in memory as a whole."""


class ParquetTable:
    """The table in a Parquet file."""

    def __init__(self, name: str) -> None:
        """`name` is what errors call the file."""
        self._name = name

    def header(self, file: IO[bytes]) -> Header:
        schema = self._opened(file).schema_arrow
        twice = next((name for name in schema.names if schema.names.count(name) > 1), None)
        if twice is not None:
            raise BatchRefused(f"{self._name} has the column {twice!r} twice.")
        return Header({field.name: field.type for field in schema})

    def cut(self, file: IO[bytes], rows: int) -> Iterator[tuple[int, int, int]]:
        metadata = self._opened(file).metadata
        start = count = 0
        for group in range(metadata.num_row_groups):
            of_group = metadata.row_group(group).num_rows
            if count and count + of_group > rows:
                yield start, group, count
                start, count = group, 0
            count += of_group
        if count:
            yield start, metadata.num_row_groups, count

    def slices(self, file: IO[bytes], block: RowBlock, columns: list[str]) -> Iterator[TableSlice]:
        import pyarrow

        opened = self._opened(file)
        groups = range(block.start, block.stop)
        first_row = block.first_row
        try:
            if groups.stop > opened.num_row_groups:
                raise self._changed()
            if not columns:
                yield from _without_columns(block)
                return
            for batch in opened.iter_batches(SLICE_ROWS, row_groups=groups, columns=columns, use_threads=False):
                arrays = {name: batch.column(name) for name in columns}
                yield TableSlice(first_row, len(batch), arrays, frozenset())
                first_row += len(batch)
        except (pyarrow.ArrowException, OSError, KeyError) as error:
            raise BatchRefused(f"{self._name} cannot be read: {_first_line(error)}.") from error
        if first_row != block.first_row + block.rows:
            raise self._changed()

    def _opened(self, file: IO[bytes]) -> Any:
        import pyarrow
        from pyarrow import parquet

        try:
            return parquet.ParquetFile(file, pre_buffer=False, buffer_size=_BUFFER_BYTES)
        except (pyarrow.ArrowException, OSError) as error:
            raise BatchRefused(f"{self._name} is no Parquet file that can be read: {_first_line(error)}.") from error

    def _changed(self) -> BatchRefused:
        return BatchRefused(f"{self._name} has changed since the batch was planned. Name another folder to write to.")


def _without_columns(block: RowBlock) -> Iterator[TableSlice]:
    """Rows of which nothing is wanted but that they are there."""
    for start in range(0, block.rows, SLICE_ROWS):
        yield TableSlice(block.first_row + start, min(SLICE_ROWS, block.rows - start), {}, frozenset())


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
