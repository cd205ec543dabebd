"""Dense rows: numbers, packed as little-endian float32, row after row, which join into a batch with one copy.

A row of JSON is a list of numbers in the features' order, or an object of all features by name. Packing one checks the
count and the range; only when something is wrong is the body read again, to say which row and which feature.
"""

import struct
from collections.abc import Sequence
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runners.inputs.columns import Boolean, not_a_number, not_finite
from runners.inputs.faults import InputFault
from runners.inputs.matrix import LARGE_BYTES, read_rows
from runners.inputs.rows import RowFormat, Rows
from runners.inputs.schema import Schema

Row = list[float] | dict[str, float]
TruthRow = list[float | bool] | dict[str, float | bool]


class DenseRows(RowFormat):
    """Rows are bytes, or a view of them."""

    dtype = np.float32
    row_type = Row
    row_description = "A row is a list of all features in their order, or an object by name."
    takes_bytes = True
    large_bytes = LARGE_BYTES

    def __init__(self, schema: Schema, max_rows: int) -> None:
        super().__init__(schema, max_rows)
        self._width = len(self.feature_names)
        self._booleans = frozenset(column.name for column in schema.columns if isinstance(column, Boolean))
        if self._booleans:
            self.truth_row_type = TruthRow
        self._pack = struct.Struct(f"<{self._width}f").pack
        # With one name, itemgetter gives the bare value instead of a tuple.
        getter = itemgetter(*self.feature_names)
        self._values = getter if self._width > 1 else lambda row: (getter(row),)
        self._row_bytes = 4 * self._width

    def pack(self, rows: Sequence[Row]) -> bytes:
        self._check_count(len(rows))
        pack, values, width = self._pack, self._values, self._width
        try:
            if len(rows) == 1 and type(rows[0]) is list:
                return pack(*rows[0])
            return b"".join([pack(*row) if isinstance(row, list) else pack(*values(whole(row, width))) for row in rows])
        except (struct.error, OverflowError, KeyError, TypeError, WrongCount):
            raise self.explain(rows) from None

    def pack_values(self, rows: Sequence[Any]) -> bytes:
        """Pack lists and objects of any values, of which truth values belong to boolean features alone."""
        self._check_count(len(rows))
        for row in rows:
            if bool in set(map(type, row.values() if isinstance(row, dict) else row)):
                pairs = row.items() if isinstance(row, dict) else zip(self.feature_names, row, strict=False)
                if any(type(value) is bool and name not in self._booleans for name, value in pairs):
                    raise self.explain(rows)
        return self.pack(rows)

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
        """Number of rows in packed float32 values. Raises `InputFault` unless they are whole, few enough and finite."""
        count, rest = divmod(len(body), self._row_bytes)
        if rest:
            message = f"{len(body)} bytes are not a whole number of rows of {self._row_bytes} bytes"
            raise InputFault("wrong_feature_count", message, beside={"expected": self._width})
        self._check_count(count)
        self._check_numbers(np.frombuffer(body, dtype="<f4"))
        return count

    def check_finite(self, rows: bytes | memoryview) -> None:
        self._check_numbers(np.frombuffer(rows, dtype="<f4"))

    def _pack_numbers(self, values: NDArray[Any]) -> memoryview:
        """A view of the values if they are float32 in C order. What float32 cannot hold is refused."""
        self._check_count(len(values))
        if values.dtype == np.float32:
            floats = np.ascontiguousarray(values)
        else:
            with np.errstate(over="ignore"):
                floats = np.ascontiguousarray(values, dtype="<f4")
        self._check_numbers(floats, values)
        return floats.data.cast("B")

    def _check_numbers(self, floats: NDArray[Any], given: NDArray[Any] | None = None) -> None:
        """Raise `InputFault` for the first number that cannot be taken; `given` is what the floats were made of."""
        if not np.isfinite(floats).all():
            raise self._first_not_finite(floats, given)

    def _first_not_finite(self, floats: NDArray[Any], given: NDArray[Any] | None = None) -> InputFault:
        """The fault of the first of some floats that is not finite; `given` is what they were made of."""
        at = int(np.isfinite(floats).argmin())
        row, column = divmod(at, self._width)
        value = (floats if given is None else given).ravel()[at]
        return not_finite(row, self.feature_names[column], float(value))

    def check_declared_text(self, name: str, value: Any) -> None:
        """What is declared as texts is not read as numbers."""
        feature = name if name in self._columns else self.feature_names[0]
        raise not_a_number(0, feature, value, "send a tensor of numbers, such as FP32, not BYTES")

    def named(self, row: Sequence[float]) -> dict[str, Any]:
        return dict(zip(self.feature_names, self.listed(row), strict=True))

    def listed(self, row: Sequence[float]) -> list[float]:
        """The row's values with no more digits than their float32 needs."""
        return [float(str(np.float32(value))) for value in row]

    def check_examples(self, rows: Sequence[Any]) -> None:
        if any(isinstance(row, str) for row in rows):
            raise ValueError("example rows must be numbers")
        if any(len(row) != self._width for row in rows):
            raise ValueError(f"an example row does not have {self._width} values")

    def batch(self, rows: Sequence[Any]) -> Rows:
        return np.array(rows, dtype=np.float32).reshape(len(rows), -1)

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
        return np.frombuffer(packed, dtype=np.float32).reshape(rows, self._width)

    def key(self, rows: bytes | memoryview) -> bytes | memoryview:
        return rows

    def to_wire(self, batch: Rows) -> bytes:
        """The packed values."""
        return batch.tobytes()

    def from_wire(self, body: bytes) -> Rows:
        return np.frombuffer(body, dtype=np.float32).reshape(-1, self._width)


class WrongCount(Exception):
    """An object with more or fewer names than there are features."""


def whole(row: dict[str, float], width: int) -> dict[str, float]:
    """The row, if it has as many names as there are features."""
    if len(row) != width:
        raise WrongCount
    return row
