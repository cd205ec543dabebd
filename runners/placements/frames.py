"""Frames: rows of named columns, with values as a client says them, for a server that needs Python to score them.

Levels and missing values are not packed there, and what is whole or true is no number with a point. `invocations` and
`column_tensors` write frames and read what is predicted for them, each for one kind of server; no HTTP here.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from runners.inputs.rows import RowFormat, Rows
from runners.inputs.schema import Feature
from runners.placements.predicted import Predicted


class UnfitValue(Exception):
    """A row has a number that its column does not; the message says which."""


class FrameWriter(Protocol):
    """How one kind of server is asked."""

    def write(self, rows: Sequence[Sequence[Any]]) -> bytes:
        """The body that asks for the predictions of rows of plain values, None where one is missing."""
        ...

    def read(self, body: bytes) -> Predicted:
        """What is predicted, by the body of an answer. Raises `Mismatch`."""
        ...


def plain_rows(features: Sequence[Feature], row_format: RowFormat, rows: Rows) -> list[list[Any]]:
    """The rows of a batch as clients say them; `row_format` is that of the features. Raises `UnfitValue`."""
    if row_format.text_field is not None:
        return [[text] for text in row_format.unbatched(rows)]
    listed = [row_format.listed(row) for row in row_format.unbatched(rows)]
    for column, feature in enumerate(features):
        if feature.type in ("integer", "boolean"):
            for row in listed:
                row[column] = _whole(feature.name, row[column], truth=feature.type == "boolean")
    return listed


def _whole(name: str, value: float | None, *, truth: bool) -> int | bool | None:
    """The value of a column of whole numbers, or of truth values, of which the server would make others."""
    if value is None or (truth and value in (0, 1)):
        return value if value is None else value == 1
    if truth or not value.is_integer():
        raise UnfitValue(f"{name!r} is {value:g}, where {'true or false' if truth else 'a whole number'} belongs")
    return int(value)
