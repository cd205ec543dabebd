"""Mixed rows: texts beside other columns, as a list of each row's values.

Numbers, and categories and missing values as numbers, are what `typed` packs; texts stay what they are. In JSON a row
is a list of all features in their order, or an object by name.
"""

import math
import struct
from collections.abc import Callable, Sequence
from itertools import chain
from operator import itemgetter
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from runners.inputs.columns import Category, Column, Number, Text, not_a_number, spelt
from runners.inputs.dense import WrongCount
from runners.inputs.faults import InputFault
from runners.inputs.precision import Precision
from runners.inputs.rows import RowFormat, Rows
from runners.inputs.schema import Schema
from runners.inputs.typed import TypedRow

Value = float | str
"""A number, NaN where one is missing, or a text."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[list[Value]]).decode


class MixedRows(RowFormat):
    """Rows are lists of lists of values."""

    dtype = object
    row_type = TypedRow
    row_description = "A row is a list of all features in their order, or an object by name."
    takes_bytes = False

    def __init__(self, schema: Schema, max_rows: int, max_text_characters: int) -> None:
        super().__init__(schema, max_rows)
        self.max_text_characters = max_text_characters
        self._width = len(self.feature_names)
        self._encoders = tuple(_encoder(column, schema.precision) for column in schema.columns)
        self._values: Callable[[Any], Sequence[Any]] = itemgetter(*self.feature_names)

    @property
    def in_words(self) -> str:
        texts = [column.name for column in self.schema.columns if isinstance(column, Text)]
        are = "is a text" if len(texts) == 1 else "are texts"
        return f"rows of {self._width} values, of which {', '.join(texts)} {are}"

    def pack(self, rows: Sequence[Any]) -> list[list[Value]]:
        self._check_count(len(rows))
        encoders, values_of = self._encoders, self._values_of
        try:
            return [
                [encode(value) for encode, value in zip(encoders, row, strict=True)]
                for row in (row if type(row) is list else values_of(row) for row in rows)
            ]
        # An UnicodeEncodeError, for half a surrogate pair, is a ValueError as well.
        except (ValueError, TypeError, KeyError, OverflowError, WrongCount):
            raise self.explain(rows) from None

    def _values_of(self, row: Any) -> Sequence[Any]:
        """The values of an object by name, in the columns' order. Raises what `pack` explains."""
        if len(row) != self._width:
            raise WrongCount
        return self._values(row)

    def pack_values(self, rows: Sequence[Any]) -> list[list[Value]]:
        """Pack lists and objects of any values. Raises `InputFault`."""
        return self.pack(rows)

    def cell_reader(self, names: Sequence[str]) -> Callable[[Sequence[str]], list[Any]]:
        return self.reader_by_name(names)

    def check_bytes(self, body: bytes | memoryview) -> int:  # noqa: ARG002
        """Refuse packed numbers."""
        message = "packed numbers are not understood here: the model takes texts beside them"
        raise InputFault("unsupported_media_type", message)

    def check_finite(self, rows: list[list[Value]]) -> None:
        """Nothing: numbers that are not finite are not packed."""

    def check_declared_text(self, name: str, value: Any) -> None:
        """Only texts and categories are texts."""
        named = self._columns.get(name)
        concerned = self.schema.columns if named is None else (named,)
        number = next((column for column in concerned if isinstance(column, Number)), None)
        if number is not None:
            instead = f"send a tensor for each feature, of numbers, such as {number.precision.datatype}, for this one"
            raise not_a_number(0, number.name, value, instead)

    def stack(self, columns: Sequence[NDArray[Any]]) -> NDArray[Any]:
        for column, values in zip(self.schema.columns, columns, strict=True):
            if not isinstance(column, Number) and len(values) and not values.dtype.hasobject:
                raise column.fault(0, values[0].item()) or InputFault("not_a_text", "a text belongs there")
        return super().stack(columns)

    def _pack_numbers(self, values: NDArray[Any]) -> list[list[Value]]:
        """Refuse numbers, which only come in tensors."""
        fault = self.explain(values[:1].tolist())
        fault.message += "; send a tensor for each feature, of BYTES for a text"
        raise fault

    def named(self, row: Sequence[Value | None]) -> dict[str, Any]:
        return dict(zip(self.feature_names, self.listed(row), strict=True))

    def listed(self, row: Sequence[Value | None]) -> list[Any]:
        """The row's values, levels as texts, and numbers with no more digits than they need."""
        return [spelt(column, value) for column, value in zip(self.schema.columns, row, strict=True)]

    def check_examples(self, rows: Sequence[Any]) -> None:
        if any(isinstance(row, str) or len(row) != self._width for row in rows):
            raise ValueError(f"an example row does not have {self._width} values")
        if not (fits := self.fitting(self.batch(rows))).all():
            raise ValueError(f"example row {int(fits.argmin())} does not fit the features")

    def batch(self, rows: Sequence[Sequence[Value | None]]) -> Rows:
        return self.join([[[math.nan if value is None else value for value in row] for row in rows]], len(rows))

    def fitting(self, batch: Rows) -> NDArray[np.bool_]:
        fits = np.full(len(batch), fill_value=True)
        for column, values in zip(self.schema.columns, batch.T, strict=True):
            fits &= [_fits(column, value) for value in values.tolist()]
        return fits

    def unbatched(self, batch: Rows) -> list[list[Value | None]]:
        return [[None if value != value else value for value in row] for row in batch.tolist()]  # noqa: PLR0124

    def part(self, rows: list[list[Value]], start: int, count: int) -> list[list[Value]]:
        return rows[start : start + count]

    def copy(self, rows: list[list[Value]]) -> list[list[Value]]:
        return rows

    def concat(self, parts: Sequence[list[list[Value]]]) -> list[list[Value]]:
        return list(chain.from_iterable(parts))

    def join(self, parts: Sequence[list[list[Value]]], rows: int) -> Rows:
        batch = np.empty((rows, self._width), dtype=object)
        batch[:] = parts[0] if len(parts) == 1 else self.concat(parts)
        return batch

    def picker(self, columns: Sequence[int]) -> Callable[[list[list[Value]], int], list[tuple[Value, ...]]]:
        return lambda rows, count: [tuple([row[column] for column in columns]) for row in rows[:count]]

    def key(self, rows: list[list[Value]]) -> bytes:
        return _encode(rows)

    def to_wire(self, batch: Rows) -> bytes:
        """MessagePack of lists of values. Raises `UnicodeEncodeError`, a `ValueError`, for what is no Unicode."""
        return _encode(batch.tolist())

    def from_wire(self, body: bytes) -> Rows:
        try:
            rows = _decode(body)
        except msgspec.DecodeError as error:
            raise ValueError(f"not lists of numbers and texts: {error}") from error
        if any(len(row) != self._width for row in rows):
            raise ValueError(f"not rows of {self._width} values")
        return self.join([rows], len(rows))


def _fits(column: Column, value: Any) -> bool:
    if isinstance(column, Number | Category):
        return isinstance(value, int | float) and column.number_fault(0, float(value)) is None
    return isinstance(value, str)


def _encoder(column: Column, precision: Precision) -> Callable[[Any], Value]:
    """What makes a packed value of one of JSON. Raises whatever `MixedRows.pack` explains."""
    if isinstance(column, Text):
        return _text_encoder(column)
    assert isinstance(column, Number | Category)
    if isinstance(column, Category):
        return column.encode  # type: ignore[no-any-return]  # of a dict of floats
    nullable, number = column.nullable, column.encode
    packing = struct.Struct(f"<{precision.letter}")
    pack, unpack = packing.pack, packing.unpack

    def encode(value: Any) -> float:
        found: float = unpack(pack(number(value)))[0]
        if math.isfinite(found) or (nullable and math.isnan(found)):
            return found
        raise OverflowError

    return encode


def _text_encoder(column: Text) -> Callable[[Any], str]:
    characters = column.max_characters

    def encode(value: Any) -> str:
        if type(value) is not str or len(value) > characters:
            raise ValueError
        if not value.isascii():
            value.encode()
        return value

    return encode
