"""Typed rows: as dense ones, but that a value may be a level of a category, which is a text, or may be missing.

They are encoded as they come in: a level becomes its position, and what is missing NaN, so that everything behind knows
numbers alone. Packed rows, and a matrix of numbers, are taken as they are encoded.
"""

import math
import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from msgspec.structs import astuple
from numpy.typing import NDArray

from runners.inputs.columns import Category, not_a_number
from runners.inputs.dense import DenseRows, WrongCount
from runners.inputs.faults import InputFault
from runners.inputs.named_row import as_sent
from runners.inputs.schema import Schema

TypedValue = int | float | str | bool | None
TypedRow = list[TypedValue] | dict[str, TypedValue]


class TypedRows(DenseRows):
    """Rows are bytes, or a view of them."""

    row_type = TypedRow

    def __init__(self, schema: Schema, max_rows: int) -> None:
        super().__init__(schema, max_rows)
        self._encoders: tuple[Callable[[Any], float], ...] = tuple(column.encode for column in self._ordered)
        self._nullable = np.array([column.nullable for column in self._ordered])
        last = {index: column.last for index, column in enumerate(self._ordered) if isinstance(column, Category)}
        self._categories, self._last = list(last), np.array(list(last.values()))
        self._category_encoders = [(index, self._encoders[index]) for index in last]
        self._gaps = [index for index in np.flatnonzero(self._nullable).tolist() if index not in last]
        """The indices of numbers that may be missing."""
        listed: Any = tuple[tuple(column.json_type for column in self._ordered)]  # type: ignore[misc]
        self.quick_row_type = listed | (self._named_row or dict[str, TypedValue])
        self.truth_row_type = TypedRow if self._integers else None

    def pack(self, rows: Sequence[Any]) -> bytes:
        self._check_count(len(rows))
        pack, encoded = self._pack, self._encoded
        try:
            packed = [pack(*encoded(row)) for row in rows]
        except (struct.error, OverflowError, KeyError, TypeError, ValueError, WrongCount):
            raise self.explain(list(map(as_sent, rows))) from None
        return packed[0] if len(packed) == 1 else b"".join(packed)

    def _encoded(self, row: Any) -> list[float]:
        """The numbers of a row. Raises what `pack` explains."""
        kind = type(row)
        if kind is list or kind is dict:
            values = row if kind is list else self._values_of(row)
            return [encode(value) for encode, value in zip(self._encoders, values, strict=True)]
        # The decoder has looked at each value by its column's kind.
        numbers = list(row if kind is tuple else astuple(row))
        for index, encode in self._category_encoders:
            numbers[index] = encode(numbers[index])
        for index in self._gaps:
            if numbers[index] is None:
                numbers[index] = math.nan
        return numbers

    def pack_values(self, rows: Sequence[Any]) -> bytes:
        """Pack lists and objects of any values. Raises `InputFault`."""
        packed = self.pack(rows)
        self._check_numbers(np.frombuffer(packed, dtype=self.dtype))
        return packed

    def pack_json(self, rows: bytes) -> tuple[memoryview, int] | None:
        """Only where every value is a number: that of a level is none in JSON."""
        return None if self._categories else super().pack_json(rows)

    def cell_reader(self, names: Sequence[str]) -> Callable[[Sequence[str]], list[Any]]:
        return self.reader_by_name(names)

    def stack(self, columns: Sequence[NDArray[Any]]) -> NDArray[Any]:
        for index in self._categories:
            values = columns[index]
            if len(values) and not values.dtype.hasobject:
                raise self._ordered[index].fault(0, values[0].item()) or InputFault("not_a_text", "a level is a text")
        return super().stack(columns)

    def check_declared_text(self, name: str, value: Any) -> None:
        """Only categories are texts."""
        named = self._columns.get(name)
        concerned = self._ordered if named is None else (named,)
        number = next((column for column in concerned if not isinstance(column, Category)), None)
        if number is not None:
            instead = f"send a tensor for each feature, of numbers, such as {self._precision.datatype}, for this one"
            raise not_a_number(0, number.name, value, instead)

    def listed(self, row: Sequence[float | None]) -> list[Any]:
        numbers = (np.nan if value is None else value for value in row)
        return [column.spell(number) for column, number in zip(self._ordered, numbers, strict=True)]

    def check_examples(self, rows: Sequence[Any]) -> None:
        super().check_examples(rows)
        batch = self.batch(rows)
        if (wrong := self._unfit(batch)).any():
            row, column = np.argwhere(wrong)[0]
            raise ValueError(f"example row {row} has {batch[row, column]} for {self.feature_names[column]!r}")

    def fitting(self, batch: NDArray[Any]) -> NDArray[np.bool_]:
        return np.asarray(~self._unfit(batch).any(axis=1))

    def unbatched(self, batch: NDArray[Any]) -> list[list[Any]]:
        return [[None if np.isnan(value) else value for value in row] for row in batch.tolist()]

    def _check_numbers(self, floats: NDArray[Any], given: NDArray[Any] | None = None) -> None:
        wrong = self._unfit(floats.reshape(-1, self._width))
        if wrong.any():
            row, column = map(int, np.argwhere(wrong)[0])
            value = (floats if given is None else given).reshape(-1, self._width)[row, column]
            fault = self._ordered[column].number_fault(row, float(value))
            raise fault or InputFault(
                "not_finite", f"row {row}, feature {self.feature_names[column]!r} cannot be taken"
            )
        self._check_exact(floats if given is None else given)

    def _unfit(self, floats: NDArray[Any]) -> NDArray[np.bool_]:
        """Which of some packed numbers, of shape (rows, features), cannot be taken."""
        missing = np.isnan(floats)
        wrong = ~np.isfinite(floats) & ~(missing & self._nullable)
        if self._categories:
            positions = floats[:, self._categories]
            with np.errstate(invalid="ignore"):
                outside = (positions < 0) | (positions > self._last) | (positions != np.floor(positions))
            wrong[:, self._categories] |= outside & ~missing[:, self._categories]
        return np.asarray(wrong)
