"""Row formats: what the rows of a request are between its decoding and the engine, and all that is done with them.

    JSON ----pack, pack_values, pack_json--.                                              .--key--> cache
    tensors -stack, pack_array-------------+--> rows --part, join--> batch --> engine     +--copy, concat--> shadow
    bytes ---pack_bytes--------------------'                           `--to_wire, from_wire--> another process

`dense` has packed numbers of one precision, `typed` the same of categories and missing values as well, `text` lists of
texts, `mixed` lists of values where texts stand beside other columns. Whoever carries rows knows nothing of what they
are; only the format of the model that they are for does. Where the versions of a model differ, `union` keeps rows as
they came until it is known which one answers.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from math import inf
from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from runners.inputs.columns import spelt
from runners.inputs.faults import InputFault, too_many_rows
from runners.inputs.precision import Precision
from runners.inputs.schema import Schema
from runners.inputs.wording import kind_of, legible

Rows = NDArray[Any]
"""What an engine takes: the format's `dtype`, of shape (rows, columns)."""
RequestRows = Any
"""The rows of one request, or a part of them, as the model's format has them."""


class RowReader(ABC):
    """Reads and explains rows of one schema, of which a request may have up to `max_rows`: what dialects decode by."""

    row_type: ClassVar[Any]
    """A row of JSON, as msgspec decodes it."""
    row_description: ClassVar[str]
    """What a row of JSON is, in words for people."""
    quick_row_type: Any
    """A row of JSON that `pack` takes without a look at each value; `row_type`, unless a decoder can look at more."""
    truth_row_type: Any = None
    """The type of a row that `pack_values` takes: what was not read as a quick one is read so, if there is such a type.
    It may have truth values, as belong to boolean features, and whole numbers that must be looked at."""
    takes_bytes: ClassVar[bool]
    """Whether rows may come as bytes that are packed already."""
    large_bytes: float = inf
    """Length of a JSON body from which on `pack_json` is the faster way."""
    text_field: str | None = None
    """The feature's name, where it is a text that bodies may also give by this name alone."""
    max_text_characters: int = 0
    """Length of one text; 0 where rows are no texts."""
    note: str = ""
    """What whoever sends rows should know besides, for people."""

    def __init__(self, schema: Schema, max_rows: int) -> None:
        self.schema = schema
        self.feature_names = schema.names
        self.max_rows = max_rows
        self.quick_row_type = self.row_type
        self._stacked_as: np.dtype[Any] = schema.precision.dtype
        self._columns = {column.name: column for column in schema.columns}

    @property
    def in_words(self) -> str:
        """What a model takes, as the end of "It takes .."; all but a text is packed as numbers."""
        width = len(self.feature_names)
        return f"rows of {width} {'number' if width == 1 else 'numbers'}"

    # From JSON and tables.

    @abstractmethod
    def pack(self, rows: Sequence[Any]) -> RequestRows:
        """Pack rows of `quick_row_type`. Raises `InputFault` that names the first bad row and feature."""

    @abstractmethod
    def pack_values(self, rows: Sequence[Any]) -> RequestRows:
        """Pack lists and objects of any values. Raises `InputFault` that names the first bad row and feature."""

    def pack_json(self, rows: bytes) -> tuple[RequestRows, int] | None:  # noqa: ARG002
        """Pack the JSON of a list of rows and count them, if there is a fast way for them and nothing is wrong."""
        return None

    def cell_reader(self, names: Sequence[str]) -> Callable[[Sequence[str]], list[Any]]:  # noqa: ARG002
        """What makes values of the cells of a table's row, whose columns have these names, known or not."""
        read_cell = self.schema.columns[0].read_cell
        return lambda cells: list(map(read_cell, cells))

    def reader_by_name(self, names: Sequence[str]) -> Callable[[Sequence[str]], list[Any]]:
        """A `cell_reader` where columns say different things by the same cell."""
        readers = [self._columns[name].read_cell if name in self._columns else str for name in names]

        def read(cells: Sequence[str]) -> list[Any]:
            # How many there are is asked afterwards.
            return [read(cell) for read, cell in zip(readers, cells, strict=False)] + list(cells[len(readers) :])

        return read

    # From bytes.

    @abstractmethod
    def pack_bytes(
        self, body: bytes | memoryview, sent_as: Precision | None = None, columns: int | None = None
    ) -> tuple[RequestRows, int]:
        """Rows of bytes that are packed already, in the model's own precision or as they say, and how many they are.

        `columns` is how many numbers a row has, where they say so. Raises `InputFault`.
        """

    @abstractmethod
    def check_finite(self, rows: RequestRows) -> None:
        """Raise `InputFault` for a number that is not finite, in rows that were packed of something that can say so."""

    # What is wrong.

    def explain(self, rows: Sequence[Any]) -> InputFault:
        """The fault of the first bad row."""
        return self.first_fault(rows) or InputFault("wrong_type", "the rows could not be read")

    def first_fault(self, rows: Sequence[Any]) -> InputFault | None:
        """What is wrong with rows of JSON, if anything is."""
        try:
            self._check_count(len(rows))
        except InputFault as counted:
            return counted
        return next((fault for index, row in enumerate(rows) if (fault := self._fault(index, row))), None)

    def _check_count(self, rows: int) -> None:
        if not rows:
            raise InputFault("no_rows", "there are no rows")
        if rows > self.max_rows:
            raise too_many_rows(rows, self.max_rows)

    def _fault(self, index: int, row: Any) -> InputFault | None:
        if isinstance(row, dict):
            return self._fault_of_names(index, row) or _first(
                self._columns[name].fault(index, value) for name, value in row.items()
            )
        if isinstance(row, list):
            if len(row) != len(self.feature_names):
                expected = len(self.feature_names)
                message = f"row {index} has {len(row)} values; the model takes {expected}"
                counts = {"expected": expected, "got": len(row)}
                return InputFault("wrong_feature_count", message, index, beside=counts)
            pairs = zip(self.schema.columns, row, strict=True)
            return _first(column.fault(index, value) for column, value in pairs)
        return self._fault_of_bare(index, row)

    def _fault_of_bare(self, index: int, row: Any) -> InputFault | None:
        """The fault of a row that is neither a list nor an object."""
        message = f"row {index} is {kind_of(row)}; a list or an object belongs here"
        return InputFault("wrong_type", message, index)

    def _fault_of_names(self, index: int, row: dict[str, Any]) -> InputFault | None:
        for name in row:
            if name not in self._columns:
                shown = legible(name)
                message = f"row {index} has the unknown feature {shown!r}; known are {', '.join(self.feature_names)}"
                return InputFault("unknown_feature", message, index, shown)
        for name in self.feature_names:
            if name not in row:
                return InputFault("missing_feature", f"row {index} lacks the feature {name!r}", index, name)
        return None


class RowFormat(RowReader):
    """Reads, explains, cuts, joins and sends rows of one schema.

    A server makes one with its limits for what it decodes; a card's own has no need of them.
    """

    dtype: DTypeLike
    """The dtype of a batch."""

    def packs_like(self, other: "RowFormat") -> bool:
        """Whether rows that are packed for one of the two are rows of the other as well."""
        return self is other or self.schema.layout == other.schema.layout

    def reads_like(self, other: "RowFormat") -> bool:
        """Whether the other one packs what is sent for this one, and refuses whole numbers that would be rounded."""
        return self.packs_like(other) and self.schema.integers <= other.schema.integers

    # From bytes and tensors.

    def pack_bytes(
        self,
        body: bytes | memoryview,
        sent_as: Precision | None = None,  # noqa: ARG002
        columns: int | None = None,  # noqa: ARG002
    ) -> tuple[RequestRows, int]:
        return body, self.check_bytes(body)

    @abstractmethod
    def check_bytes(self, body: bytes | memoryview) -> int:
        """Number of rows in bytes that are packed already. Raises `InputFault`."""

    def stack(self, columns: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Rows of one array for each feature, each flat; numbers as they were sent if one does not fit.

        Raises `InputFault`.
        """
        for column, values in zip(self.schema.columns, columns, strict=True):
            if len(values) and values.dtype == bool and (fault := column.fault(0, bool(values[0]))) is not None:
                raise fault
        if any(values.dtype.hasobject for values in columns):
            return np.stack([values.astype(object) for values in columns], axis=1)
        with np.errstate(over="ignore", invalid="ignore"):
            floats = np.stack([values.astype(self._stacked_as) for values in columns], axis=1)
        return floats if np.isfinite(floats).all() else np.stack([values.astype("<f8") for values in columns], axis=1)

    def pack_array(self, values: NDArray[Any]) -> RequestRows:
        """Pack values of shape (rows, features). Raises `InputFault`."""
        if values.dtype.hasobject:
            return self.pack_values(values.tolist())
        if values.dtype == bool:
            # One row says for all of them which features are boolean.
            self.pack_values(values[:1].tolist())
        return self._pack_numbers(values)

    @abstractmethod
    def _pack_numbers(self, values: NDArray[Any]) -> RequestRows:
        """Pack numbers of any dtype, of shape (rows, features). Raises `InputFault`."""

    @abstractmethod
    def check_declared_text(self, name: str, value: Any) -> None:
        """Raise `InputFault` where the tensor `name`, whose first value is `value`, may not be declared as texts."""

    # As the model's own server and clients see them.

    @abstractmethod
    def named(self, row: Any) -> dict[str, Any]:
        """A card's example row as an object by name."""

    @abstractmethod
    def listed(self, row: Any) -> Any:
        """A card's example row as the other form that JSON has for it."""

    def spelt(self, column: int, value: Any) -> Any:
        """A value of a batch's column as JSON has it: of a level its text, None for what is missing."""
        return spelt(self.schema.columns[column], value)

    @abstractmethod
    def check_examples(self, rows: Sequence[Any]) -> None:
        """Raise `ValueError` unless a card's example rows are of this format."""

    @abstractmethod
    def batch(self, rows: Sequence[Any]) -> Rows:
        """The batch of a card's example rows."""

    @abstractmethod
    def fitting(self, batch: Rows) -> NDArray[np.bool_]:
        """Which rows of a batch could be a request's: bool (rows,)."""

    @abstractmethod
    def unbatched(self, batch: Rows) -> list[Any]:
        """The rows of a batch as a card has them."""

    # On their way.

    @abstractmethod
    def part(self, rows: RequestRows, start: int, count: int) -> RequestRows:
        """`count` rows from `start` on, if possible without a copy."""

    @abstractmethod
    def copy(self, rows: RequestRows) -> RequestRows:
        """The rows without what else there is of their request, which a view would keep in memory."""

    @abstractmethod
    def concat(self, parts: Sequence[RequestRows]) -> RequestRows:
        """The rows of several requests as those of one."""

    @abstractmethod
    def join(self, parts: Sequence[RequestRows], rows: int) -> Rows:
        """The batch of parts of requests, which have so many rows together."""

    @abstractmethod
    def picker(self, columns: Sequence[int]) -> Callable[[RequestRows, int], list[tuple[Any, ...]]]:
        """What reads the packed values of these columns, which ascend, in so many rows from the first one on."""

    @abstractmethod
    def key(self, rows: RequestRows) -> bytes | memoryview:
        """The bytes that `to_wire` makes of their batch: two requests for the same model share them only if their rows
        are the same, one by one.
        """

    @abstractmethod
    def to_wire(self, batch: Rows) -> bytes:
        """A batch as it travels to another process of this server. Raises `ValueError` for what cannot be sent."""

    @abstractmethod
    def from_wire(self, body: bytes) -> Rows:
        """The batch that was sent. Raises `ValueError` when the body is not rows of this format."""


def _first(faults: Any) -> InputFault | None:
    return next(filter(None, faults), None)
