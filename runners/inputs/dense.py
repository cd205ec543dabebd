"""Dense rows: numbers, packed as little-endian float32 or float64, row after row; they join into a batch with one copy.

A row of JSON is a list of numbers in the features' order, or an object of all features by name. Packing one checks the
count and the range; only when something is wrong is the body read again, to say which row and which feature.

Whole numbers are never rounded. Of JSON, the decoder refuses numbers beyond those that are all exact, at no cost of its
own; rows with such a number are read again, without the bound, and looked at one by one.
"""

import struct
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec.structs import astuple
from numpy.typing import NDArray

from runners.inputs.columns import Boolean, Category, Integer, Number, not_a_number, not_exact, not_finite
from runners.inputs.faults import InputFault
from runners.inputs.matrix import LARGE_BYTES, read_rows
from runners.inputs.named_row import as_sent, named_row_type
from runners.inputs.precision import Precision
from runners.inputs.rows import RowFormat, Rows
from runners.inputs.schema import Schema

Row = list[float] | dict[str, float]
TruthRow = list[int | float | bool] | dict[str, int | float | bool]


class DenseRows(RowFormat):
    """Rows are bytes, or a view of them."""

    row_type = Row
    row_description = "A row is a list of all features in their order, or an object by name."
    takes_bytes = True
    large_bytes = LARGE_BYTES

    def __init__(self, schema: Schema, max_rows: int) -> None:
        super().__init__(schema, max_rows)
        self._width = len(self.feature_names)
        self._precision = precision = schema.precision
        self.dtype = precision.dtype
        self._booleans = frozenset(column.name for column in schema.columns if isinstance(column, Boolean))
        self._integers = [index for index, column in enumerate(schema.columns) if isinstance(column, Integer)]
        number: Any = float
        if self._integers:
            number = Annotated[float, msgspec.Meta(ge=float(-precision.whole), le=float(precision.whole))]
            self._stacked_as = np.dtype("<f8")
        if self._booleans or self._integers:
            self.truth_row_type = TruthRow
        self._ordered = tuple(column for column in schema.columns if isinstance(column, Number | Category))
        self._named_row = named_row_type(self._ordered)
        self.quick_row_type = list[number] | (self._named_row or dict[str, number])
        self._pack = struct.Struct(f"<{self._width}{precision.letter}").pack
        # With one name, itemgetter gives the bare value instead of a tuple.
        getter = itemgetter(*self.feature_names)
        self._values = getter if self._width > 1 else lambda row: (getter(row),)
        self._row_bytes = self.dtype.itemsize * self._width

    def pack(self, rows: Sequence[Row]) -> bytes:
        self._check_count(len(rows))
        pack, values_of = self._pack, self._values_of
        try:
            if len(rows) == 1:
                row = rows[0]
                return pack(*(row if type(row) is list else values_of(row)))
            return b"".join([pack(*(row if type(row) is list else values_of(row))) for row in rows])
        except (struct.error, OverflowError, KeyError, TypeError, WrongCount):
            raise self.explain(list(map(as_sent, rows))) from None

    def _values_of(self, row: Any) -> Sequence[Any]:
        """The values of an object by name, in the columns' order. Raises `KeyError`, `TypeError` and `WrongCount`."""
        if type(row) is self._named_row:
            return astuple(row)
        if len(row) != self._width:
            raise WrongCount
        return self._values(row)

    def pack_values(self, rows: Sequence[Any]) -> bytes:
        """Pack lists and objects of any values, of which truth values belong to boolean features alone."""
        self._check_count(len(rows))
        for row in rows:
            if bool in set(map(type, row.values() if isinstance(row, dict) else row)):
                pairs = row.items() if isinstance(row, dict) else zip(self.feature_names, row, strict=False)
                if any(type(value) is bool and name not in self._booleans for name, value in pairs):
                    raise self.explain(rows)
        packed = self.pack(rows)
        if self._integers and not np.abs(np.frombuffer(packed, self.dtype)).max() < self._precision.whole:
            fault = self.first_fault(rows)
            if fault is not None:
                raise fault
        return packed

    def pack_json(self, rows: bytes) -> tuple[memoryview, int] | None:
        """The packed rows of lists of numbers alone, and their number; None for any other JSON."""
        values = read_rows(rows, self._width)
        if values is None:
            return None
        try:
            return self._pack_numbers(values), len(values)
        except InputFault:
            return None

    def check_bytes(self, body: bytes | memoryview) -> int:
        """Number of rows in packed values. Raises `InputFault` unless they are whole, few enough and finite."""
        count = self._count(len(body), self._row_bytes)
        self._check_numbers(np.frombuffer(body, dtype=self.dtype))
        return count

    def _count(self, size: int, row_bytes: int) -> int:
        count, rest = divmod(size, row_bytes)
        if rest:
            message = f"{size} bytes are not a whole number of rows of {row_bytes} bytes"
            raise InputFault("wrong_feature_count", message, beside={"expected": self._width})
        self._check_count(count)
        return count

    def pack_bytes(
        self, body: bytes | memoryview, sent_as: Precision | None = None, columns: int | None = None
    ) -> tuple[bytes | memoryview, int]:
        if columns not in (None, self._width):
            message = f"the packed rows have {columns} columns; the model takes {self._width}"
            raise InputFault("wrong_feature_count", message, beside={"expected": self._width, "got": columns})
        if sent_as is None or sent_as == self._precision:
            return body, self.check_bytes(body)
        count = self._count(len(body), sent_as.dtype.itemsize * self._width)
        return self._pack_numbers(np.frombuffer(body, sent_as.dtype).reshape(count, self._width)), count

    def check_finite(self, rows: bytes | memoryview) -> None:
        self._check_numbers(np.frombuffer(rows, dtype=self.dtype))

    def _pack_numbers(self, values: NDArray[Any]) -> memoryview:
        """A view of the values if they are packed already, in C order. What the precision cannot hold is refused."""
        self._check_count(len(values))
        if values.dtype == self.dtype:
            floats = np.ascontiguousarray(values)
        else:
            with np.errstate(over="ignore"):
                floats = np.ascontiguousarray(values, dtype=self.dtype)
        self._check_numbers(floats, values)
        return floats.data.cast("B")

    def _check_numbers(self, floats: NDArray[Any], given: NDArray[Any] | None = None) -> None:
        """Raise `InputFault` for the first number that cannot be taken; `given` is what the floats were made of."""
        if not np.isfinite(floats).all():
            raise self._first_not_finite(floats, given)
        self._check_exact(floats if given is None else given)

    def _check_exact(self, numbers: NDArray[Any]) -> None:
        """Raise `InputFault` for the first whole number that packing rounds; the numbers are as they were sent."""
        whole = self._precision.whole
        if not self._integers or (numbers.dtype.kind == "f" and numbers.dtype.itemsize <= 4):
            return
        if float(numbers.max()) <= whole and float(numbers.min()) >= -whole:
            return
        given = numbers.reshape(-1, self._width)[:, self._integers]
        wide = given.astype(np.float64)
        wrong = ~(self._precision.held(wide) | np.isnan(wide))
        if wrong.any():
            row, at = map(int, np.argwhere(wrong)[0])
            raise not_exact(row, self.feature_names[self._integers[at]], given[row, at].item(), self._precision)

    def _first_not_finite(self, floats: NDArray[Any], given: NDArray[Any] | None = None) -> InputFault:
        """The fault of the first of some floats that is not finite; `given` is what they were made of."""
        at = int(np.isfinite(floats).argmin())
        row, column = divmod(at, self._width)
        value = (floats if given is None else given).ravel()[at]
        return not_finite(row, self.feature_names[column], float(value), self._precision)

    def check_declared_text(self, name: str, value: Any) -> None:
        """What is declared as texts is not read as numbers."""
        feature = name if name in self._columns else self.feature_names[0]
        instead = f"send a tensor of numbers, such as {self._precision.datatype}, not BYTES"
        raise not_a_number(0, feature, value, instead)

    def named(self, row: Sequence[float]) -> dict[str, Any]:
        return dict(zip(self.feature_names, self.listed(row), strict=True))

    def listed(self, row: Sequence[float]) -> list[float]:
        """The row's values with no more digits than they need to be packed as they are."""
        return [self._precision.spell(value) for value in row]

    def check_examples(self, rows: Sequence[Any]) -> None:
        if any(isinstance(row, str) for row in rows):
            raise ValueError("example rows must be numbers")
        if any(len(row) != self._width for row in rows):
            raise ValueError(f"an example row does not have {self._width} values")

    def batch(self, rows: Sequence[Any]) -> Rows:
        return np.array(rows, dtype=self.dtype).reshape(len(rows), -1)

    def fitting(self, batch: Rows) -> NDArray[np.bool_]:
        return np.asarray(np.isfinite(batch).all(axis=1))

    def unbatched(self, batch: Rows) -> list[list[float]]:
        return batch.tolist()  # type: ignore[no-any-return]  # numpy's stubs know no more

    def part(self, rows: bytes | memoryview, start: int, count: int) -> memoryview:
        stride = self._row_bytes
        return memoryview(rows)[start * stride : (start + count) * stride]

    def copy(self, rows: bytes | memoryview) -> bytes:
        return bytes(rows)

    def concat(self, parts: Sequence[bytes | memoryview]) -> bytes:
        return b"".join(parts)

    def join(self, parts: Sequence[bytes | memoryview], rows: int) -> Rows:
        packed = parts[0] if len(parts) == 1 else b"".join(parts)
        return np.frombuffer(packed, dtype=self.dtype).reshape(rows, self._width)

    def picker(self, columns: Sequence[int]) -> Callable[[bytes | memoryview, int], list[tuple[float, ...]]]:
        layout, end = "<", 0
        for column in columns:
            layout += f"{(column - end) * self._precision.dtype.itemsize}x{self._precision.letter}"
            end = column + 1
        unpack, stride = struct.Struct(layout).unpack_from, self._row_bytes
        # Most requests have one row.
        return lambda rows, count: [unpack(rows)] if count == 1 else [unpack(rows, at * stride) for at in range(count)]

    def key(self, rows: bytes | memoryview) -> bytes | memoryview:
        return rows

    def to_wire(self, batch: Rows) -> bytes:
        """The packed values."""
        return batch.tobytes()

    def from_wire(self, body: bytes) -> Rows:
        return np.frombuffer(body, dtype=self.dtype).reshape(-1, self._width)


class WrongCount(Exception):
    """An object with more or fewer names than there are features."""
