"""Rows of one text each, as a list of strings. In JSON a row is the text itself, a list of it, or an object by name."""

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from runners.inputs.faults import InputFault
from runners.inputs.rows import RowFormat, Rows
from runners.inputs.schema import Schema

TextRow = dict[str, str] | list[str] | str
"""The object first: BentoML's clients encode by the first of alternatives, and would send its names as a list."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[str]).decode


class TextRows(RowFormat):
    """Rows are lists of strings."""

    dtype = object
    row_type = TextRow
    row_description = "A row is a text: as it is, alone in a list, or an object by name."
    takes_bytes = False

    def __init__(self, schema: Schema, max_rows: int, max_text_characters: int) -> None:
        super().__init__(schema, max_rows)
        (self._column,) = schema.columns
        self.text_field = self._name = self._column.name
        self.max_text_characters = max_text_characters

    @property
    def in_words(self) -> str:
        return "a text"

    def pack(self, rows: Sequence[TextRow]) -> list[str]:
        self._check_count(len(rows))
        try:
            texts = [row if type(row) is str else self._text(row) for row in rows]
            if max(map(len, texts)) > self.max_text_characters:
                raise ValueError
            "".join(texts).encode()
        # An UnicodeEncodeError, for half a surrogate pair, is a ValueError as well.
        except (ValueError, TypeError, AttributeError):
            raise self.explain(rows) from None
        return texts

    def pack_values(self, rows: Sequence[Any]) -> list[str]:
        """Pack rows of any values: whatever is no text is refused. Raises `InputFault`."""
        return self.pack(rows)

    def check_bytes(self, body: bytes | memoryview) -> int:  # noqa: ARG002
        """Refuse packed numbers."""
        message = "packed numbers are not understood here: the model takes a text"
        raise InputFault("unsupported_media_type", message)

    def check_finite(self, rows: list[str]) -> None:
        """Nothing: there are no numbers."""

    def check_declared_text(self, name: str, value: Any) -> None:
        """Nothing: texts belong here."""

    def _pack_numbers(self, values: NDArray[Any]) -> list[str]:
        """Refuse numbers, which only come in tensors."""
        fault = self.explain(values[:1].tolist())
        fault.message += "; send a tensor of BYTES"
        raise fault

    def named(self, row: str) -> dict[str, str]:
        return {self._name: row}

    def listed(self, row: str) -> str:
        return row

    def check_examples(self, rows: Sequence[Any]) -> None:
        if not all(isinstance(row, str) for row in rows):
            raise ValueError("example rows must be texts")

    def batch(self, rows: Sequence[str]) -> Rows:
        return self.join([list(rows)], len(rows))

    def fitting(self, batch: Rows) -> NDArray[np.bool_]:
        return np.array([isinstance(text, str) for text in batch[:, 0].tolist()])

    def unbatched(self, batch: Rows) -> list[str]:
        return batch[:, 0].tolist()  # type: ignore[no-any-return]  # numpy's stubs know no more

    def part(self, rows: list[str], start: int, count: int) -> list[str]:
        return rows[start : start + count]

    def copy(self, rows: list[str]) -> list[str]:
        return rows

    def concat(self, parts: Sequence[list[str]]) -> list[str]:
        return list(chain.from_iterable(parts))

    def join(self, parts: Sequence[list[str]], rows: int) -> Rows:
        batch = np.empty((rows, 1), dtype=object)
        batch[:, 0] = parts[0] if len(parts) == 1 else self.concat(parts)
        return batch

    def picker(self, columns: Sequence[int]) -> Callable[[list[str], int], list[tuple[str, ...]]]:
        return lambda rows, count: [(row,) * len(columns) for row in rows[:count]]

    def key(self, rows: list[str]) -> bytes:
        return _encode(rows)

    def to_wire(self, batch: Rows) -> bytes:
        """MessagePack of a list of strings. Raises `UnicodeEncodeError`, a `ValueError`, for what is no Unicode."""
        return _encode(self.unbatched(batch))

    def from_wire(self, body: bytes) -> Rows:
        try:
            texts = _decode(body)
        except msgspec.DecodeError as error:
            raise ValueError(f"not a list of texts: {error}") from error
        return self.join([texts], len(texts))

    def _text(self, row: Any) -> str:
        (text,) = row if isinstance(row, list) else row.values()
        if not isinstance(text, str) or (isinstance(row, dict) and self._name not in row):
            raise TypeError
        return text

    def _fault_of_bare(self, index: int, row: Any) -> InputFault | None:
        return self._column.fault(index, row)
