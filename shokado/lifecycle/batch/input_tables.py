"""Input tables: the files at an address, and how each is cut and read.

A folder may have folders in it whose names say the value of a column (`region=eu/day=2026-01-31/..`), which all rows
below have then. Names that begin with `.` or `_` are left alone, as every reader of such folders leaves them.
"""

import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import replace
from urllib.parse import unquote

from shokado.lifecycle.batch.batch_plan import InputFile, RowBlock
from shokado.lifecycle.batch.csv_table import CsvTable
from shokado.lifecycle.batch.locations import HIDDEN, Location, relative
from shokado.lifecycle.batch.parquet_table import ParquetTable
from shokado.lifecycle.batch.table_slice import Header, TableReader, TableSlice
from shokado.lifecycle.errors import BatchRefused

SUFFIXES = (".csv", ".parquet", ".pq")
_MISSING = "__HIVE_DEFAULT_PARTITION__"
"""What the name of a folder has for a missing value."""


def find_files(location: Location) -> list[InputFile]:
    """The tables there, by name. Raises `BatchRefused` where there are none, or other files among them."""
    found = []
    for path in location.files():
        name = relative(path, location.path)
        if any(part.startswith(HIDDEN) for part in name.split("/")):
            continue
        if not name.lower().endswith(SUFFIXES):
            raise BatchRefused(f"{location.name}: {name} is none of {', '.join(SUFFIXES)}. Take it out.")
        size, mark = location.size_and_mark(path)
        found.append(InputFile(path, name, size, mark, _constants_of(name)))
    if not found:
        raise BatchRefused(f"There is no table at {location.name}: a file or a folder of {', '.join(SUFFIXES)}.")
    return found


def header_of(location: Location, file: InputFile) -> Header:
    """Its columns, those of its path included. Raises `BatchRefused`."""
    import pyarrow

    with location.open(file.path) as opened:
        types = _table_of(file).header(opened).types
    twice = next((name for name in file.constants if name in types), None)
    if twice is not None:
        raise BatchRefused(f"{file.name} has the column {twice!r}, which its path says as well.")
    return Header({**types, **dict.fromkeys(file.constants, pyarrow.string())})


def cut_into_blocks(location: Location, files: Sequence[InputFile], rows: int) -> Iterator[RowBlock]:
    """All rows of all files in blocks of about so many. Raises `BatchRefused`."""
    for number, file in enumerate(files):
        first_row = 0
        with location.open(file.path) as opened:
            for start, stop, count in _table_of(file).cut(opened, rows):
                yield RowBlock(number, first_row, count, start, stop)
                first_row += count


def slices_of(location: Location, file: InputFile, block: RowBlock, columns: Sequence[str]) -> Iterator[TableSlice]:
    """The rows of a block, of which these columns are wanted. Raises `BatchRefused`."""
    import pyarrow

    own = [name for name in columns if name not in file.constants]
    said = {name: value for name, value in file.constants.items() if name in columns}
    with location.open(file.path) as opened:
        for part in _table_of(file).slices(opened, block, own):
            constants = {name: pyarrow.array([value] * part.rows, pyarrow.string()) for name, value in said.items()}
            yield replace(part, columns={**part.columns, **constants}, cells=part.cells | constants.keys())


def _table_of(file: InputFile) -> TableReader:
    return CsvTable(file.name) if file.is_csv else ParquetTable(file.name)


def _constants_of(name: str) -> dict[str, str | None]:
    pairs = [folder.partition("=") for folder in posixpath.dirname(name).split("/") if "=" in folder]
    return {unquote(column): None if value == _MISSING else unquote(value) for column, _, value in pairs}
