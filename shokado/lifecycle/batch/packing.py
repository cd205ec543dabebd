"""Packing: the columns of a slice become the batch of a version, and what is wrong with rows stays with those rows.

    columns ---- as one matrix of numbers, where nothing is wrong ----> batch
            `--- row by row, as a server reads rows of JSON or CSV ---> batch, and the faults of some rows

Both ways go through the version's own row format, so a value means what it means in a request.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runners.inputs.columns import Boolean, Category, Column, Integer, Number, Text
from runners.inputs.datatypes import BYTES
from runners.inputs.faults import InputFault
from runners.inputs.precision import FLOAT64
from runners.inputs.rows import RequestRows, RowFormat, Rows
from shokado.lifecycle.batch.table_slice import TableSlice

_TOGETHER = 512
"""Rows that are packed together; where something is wrong with one, each of them is packed alone."""


@dataclass(frozen=True, eq=False)
class PackedRows:
    """Rows that a version takes.

    Attributes:
        batch: (rows, features), as its engine takes them; None where there are none.
        positions: where each of them stands in the slice, int64 (rows,).
        faults: of all other rows, by their position in the slice.
    """

    batch: Rows | None
    positions: NDArray[np.int64]
    faults: Mapping[int, InputFault]


def pack(part: TableSlice, row_format: RowFormat, positions: NDArray[np.int64]) -> PackedRows:
    """Pack the rows of a slice that stand at these positions."""
    columns = [part.columns[name] for name in row_format.feature_names]
    if len(positions) < part.rows:
        columns = [column.take(positions) for column in columns]
    is_cell = [name in part.cells for name in row_format.feature_names]
    packed = _packed_together(columns, is_cell, row_format)
    if packed is not None:
        return PackedRows(row_format.join([packed], len(positions)), positions, {})
    taken: list[int] = []
    parts: list[RequestRows] = []
    faults: dict[int, InputFault] = {}
    for start, rows in _rows_of(columns, is_cell, row_format):
        for at, count, outcome in _packed_apart(row_format, rows):
            if isinstance(outcome, InputFault):
                position = int(positions[start + at])
                faults[position] = _told_of(outcome, part.first_row + position)
            else:
                parts.append(outcome)
                taken += range(start + at, start + at + count)
    batch = row_format.join(parts, len(taken)) if taken else None
    return PackedRows(batch, positions[taken] if taken else positions[:0], faults)


# Together.


def _packed_together(columns: Sequence[Any], is_cell: Sequence[bool], row_format: RowFormat) -> RequestRows | None:
    """The packed rows, if all values are numbers or levels and nothing is wrong with any."""
    if row_format.schema.datatype == BYTES or not columns or not len(columns[0]):
        return None
    numbers = []
    for column, values, cells in zip(row_format.schema.columns, columns, is_cell, strict=True):
        found = _levels(column, values, cells) if isinstance(column, Category) else _numbers(column, values, cells)
        if found is None:
            return None
        numbers.append(found)
    matrix = np.ascontiguousarray(np.stack(numbers, axis=1), dtype="<f8")
    try:
        return row_format.pack_bytes(matrix.data.cast("B"), FLOAT64)[0]
    except InputFault:
        return None


def _numbers(column: Column, values: Any, is_cell: bool) -> NDArray[np.float64] | None:
    """The values as float64, NaN where one is missing and may be; None where that would change or hide something."""
    import pyarrow
    from pyarrow import compute, types

    assert isinstance(column, Number)
    kind = values.type
    if is_cell and column.nullable:
        values = compute.if_else(compute.equal(values, ""), pyarrow.scalar(None, values.type), values)
    if types.is_boolean(kind) and not isinstance(column, Boolean):
        return None
    if not (is_cell or types.is_boolean(kind) or types.is_floating(kind) or types.is_integer(kind)):
        return None
    if values.null_count and not column.nullable:
        return None
    if types.is_integer(kind) and len(values) > values.null_count:
        bounds = compute.min_max(values).as_py()
        if max(abs(bounds["min"]), abs(bounds["max"])) > FLOAT64.whole:
            return None
    try:
        floats = values.cast(pyarrow.uint8()) if types.is_boolean(kind) else values
        found: NDArray[np.float64] = floats.cast(pyarrow.float64()).to_numpy(zero_copy_only=False)
    except pyarrow.ArrowInvalid:
        return None
    if is_cell and isinstance(column, Integer) and (np.abs(found) > FLOAT64.whole).any():
        return None
    return found


def _levels(column: Category, values: Any, is_cell: bool) -> NDArray[np.float64] | None:
    """The number of each value's level, NaN where one is missing; None where one is no level."""
    import pyarrow

    if not is_text(values.type):
        return None
    coded = values if pyarrow.types.is_dictionary(values.type) else values.dictionary_encode()
    texts = [text if text is not None else "" if is_cell else None for text in coded.dictionary.to_pylist()]
    try:
        known = [column.encode(column.read_cell(text) if is_cell and text is not None else text) for text in texts]
        missing = column.encode(column.read_cell("") if is_cell else None) if coded.null_count else math.nan
    except (KeyError, TypeError):
        return None
    codes = coded.indices.fill_null(len(known)).to_numpy(zero_copy_only=False)
    found: NDArray[np.float64] = np.array([*known, missing], dtype=np.float64)[codes]
    return found


def is_text(kind: Any) -> bool:
    """Whether an Arrow type is of texts."""
    from pyarrow import types

    if types.is_dictionary(kind):
        kind = kind.value_type
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


# Row by row.


def _rows_of(
    columns: Sequence[Any], is_cell: Sequence[bool], row_format: RowFormat
) -> Iterator[tuple[int, list[list[Any]]]]:
    """Rows as JSON has them, `_TOGETHER` at a time, each with the position of its first one."""
    names = row_format.feature_names
    read = row_format.cell_reader(names)
    for start in range(0, len(columns[0]), _TOGETHER):
        values = [column.slice(start, _TOGETHER).to_pylist() for column in columns]
        rows = [list(row) for row in zip(*values, strict=True)]
        if all(is_cell):
            rows = [read(["" if cell is None else cell for cell in row]) for row in rows]
        else:
            readers = list(map(_reader, row_format.schema.columns, is_cell))
            rows = [[reader(value) for reader, value in zip(readers, row, strict=True)] for row in rows]
        yield start, rows


def _reader(column: Column, is_cell: bool) -> Callable[[Any], Any]:
    if is_cell:
        return lambda cell: column.read_cell("" if cell is None else cell)
    return lambda value: float(value) if isinstance(value, Decimal) else value


def _packed_apart(
    row_format: RowFormat, rows: Sequence[list[Any]]
) -> Iterator[tuple[int, int, RequestRows | InputFault]]:
    """What becomes of the rows: where each part begins, how many rows it has, and those packed or what is wrong."""
    together = _packed(row_format, rows)
    if not isinstance(together, InputFault):
        yield 0, len(rows), together
        return
    for at in range(len(rows)):
        yield at, 1, _packed(row_format, rows[at : at + 1])


def _packed(row_format: RowFormat, rows: Sequence[list[Any]]) -> RequestRows | InputFault:
    try:
        packed = row_format.pack_values(rows)
        row_format.check_finite(packed)
    except InputFault as fault:
        return fault
    return packed


def _told_of(fault: InputFault, row: int) -> InputFault:
    """The fault of a row that was packed alone, with its number in the file."""
    message = re.sub(r"^row 0\b", f"row {row}", fault.message)
    return InputFault(fault.code, message, row, fault.feature, dict(fault.beside))


# Before anything is packed.


def why_unfit(column: Column, kind: Any) -> str | None:
    """Why no value of an Arrow type can be the feature's; None where some can."""
    from pyarrow import types

    if types.is_null(kind):
        return None
    if isinstance(column, Text | Category):
        return None if is_text(kind) else f"it is of {kind}, and the model takes texts"
    if types.is_boolean(kind):
        return None if isinstance(column, Boolean) else "it is of truth values, and the model takes numbers"
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        return None
    return f"it is of {kind}, and the model takes numbers"
