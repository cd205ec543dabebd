"""Slices of tables: some rows as Arrow columns, whichever file they come from."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, Any, Protocol

from shokado.lifecycle.batch.batch_plan import RowBlock

SLICE_ROWS = 16_384
"""Rows that are in memory at once, of each block that is under way."""


@dataclass(frozen=True, eq=False)
class TableSlice:
    """Some rows, one after the other.

    Attributes:
        first_row: how many rows of the file stand before them.
        rows: how many they are.
        columns: Arrow arrays by name, each of so many values.
        cells: names of columns whose values are texts that say a value, as in CSV.
        broken: what is wrong with rows that cannot be read at all, by position; their values are null.
    """

    first_row: int
    rows: int
    columns: Mapping[str, Any]
    cells: frozenset[str]
    broken: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Header:
    """The columns of a table, and of which Arrow types they are."""

    types: Mapping[str, Any]


class TableReader(Protocol):
    """One kind of files."""

    def header(self, file: IO[bytes]) -> Header:
        """Raises `BatchRefused`."""
        ...

    def cut(self, file: IO[bytes], rows: int) -> Iterator[tuple[int, int, int]]:
        """Where blocks of about so many rows begin and end, as `Block` has it, and the rows of each. Raises
        `BatchRefused`.
        """
        ...

    def slices(self, file: IO[bytes], block: RowBlock, columns: list[str]) -> Iterator[TableSlice]:
        """The rows of a block. Raises `BatchRefused` where they are not those that were planned."""
        ...
