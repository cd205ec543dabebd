"""The signature: the features every version of the model takes, and how rows of JSON become packed floats.

A row is a list of numbers in the features' order, or an object of all features by name. Packing one checks the count
and the range; only when something is wrong is the body read again, to say which row and which feature.
"""

import math
import struct
from collections.abc import Callable, Collection, Sequence
from operator import itemgetter
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from runners.artefacts.card import Card
from runners.inputs.rows import RequestRows
from shokado.dialects.json_text import (
    LONG_BYTES,
    exceeds,
    legible,
    read_leniently,
    refuse_endless_numbers,
    refuse_half_characters,
)
from shokado.dialects.matrix import LARGE_BYTES, read_rows
from shokado.dialects.problem import Problem, invalid, too_many_rows

Row = list[float] | dict[str, float]
TruthRow = list[float | bool] | dict[str, float | bool]
AnyRow = TypeVar("AnyRow")
"""What a body's struct takes as a row: `row_type` of the signature."""

_BESIDE_ROWS = 1024
"""Values, and lists, that a body may have beside its rows; for each feature, a tensor may say its name and shape."""
_PER_FEATURE = 8
_MAX_NUMBER_CHARACTERS = 40
"""Of a text that is looked at as a number."""
RowsIn = Callable[[Any], Any]
FLOAT32_MAX = float(np.finfo(np.float32).max)


def _as_it_is(value: Any) -> Any:
    return value


class Signature:
    """Packs and explains rows of `feature_names`, up to `max_rows` a request."""

    row_type: Any = Row
    truth_row_type: Any = None
    """The same with truth values, where a feature is boolean: rows are read so that could not be read as numbers."""
    text_field: str | None = None
    """The feature's name, where it is a text that bodies may also give by this name alone."""
    max_text_characters: int = 0
    """Of one text; 0 where rows are numbers."""

    def __init__(self, feature_names: Sequence[str], max_rows: int, booleans: Collection[str] = ()) -> None:
        """`booleans` are the features that may also be given as `true` or `false`, which mean 1 and 0."""
        self.feature_names = tuple(feature_names)
        self.booleans = frozenset(booleans)
        if self.booleans:
            self.truth_row_type = TruthRow
        self.max_rows = max_rows
        self._known = frozenset(self.feature_names)
        self._pack = struct.Struct(f"<{len(self.feature_names)}f").pack
        # With one name, itemgetter gives the bare value instead of a tuple.
        getter = itemgetter(*self.feature_names)
        self._values = getter if len(self.feature_names) > 1 else lambda row: (getter(row),)
        self._row_bytes = 4 * len(self.feature_names)

    def pack(self, rows: Sequence[Row]) -> bytes:
        """Pack rows of numbers. Raises `Problem` that names the first bad row and feature."""
        self._check_count(len(rows))
        pack, values, width = self._pack, self._values, len(self.feature_names)
        try:
            if len(rows) == 1 and type(rows[0]) is list:
                return pack(*rows[0])
            return b"".join(
                [pack(*row) if isinstance(row, list) else pack(*values(_whole(row, width))) for row in rows]
            )
        except (struct.error, OverflowError, KeyError, TypeError, _WrongCount):
            raise self.explain(rows) from None

    def pack_values(self, rows: Sequence[Any]) -> RequestRows:
        """As `pack`, of rows whose values may be anything: a truth value belongs to a boolean feature."""
        self._check_count(len(rows))
        for row in rows:
            if bool in set(map(type, row.values() if isinstance(row, dict) else row)):
                pairs = row.items() if isinstance(row, dict) else zip(self.feature_names, row, strict=False)
                if any(type(value) is bool and name not in self.booleans for name, value in pairs):
                    raise self.explain(rows)
        return self.pack(rows)

    def check_binary(self, body: bytes | memoryview) -> int:
        """Number of rows in packed float32 values. Raises `Problem` unless they are whole, few enough and finite."""
        count, rest = divmod(len(body), self._row_bytes)
        if rest:
            message = f"{len(body)} bytes are not a whole number of rows of {self._row_bytes} bytes"
            raise invalid("wrong_feature_count", message, expected=len(self.feature_names))
        self._check_count(count)
        values = np.frombuffer(body, dtype="<f4")
        finite = np.isfinite(values)
        if not finite.all():
            row, column = divmod(int(finite.argmin()), len(self.feature_names))
            raise self._not_finite(
                row, self.feature_names[column], float(values[row * len(self.feature_names) + column])
            )
        return count

    def pack_array(self, values: NDArray[Any]) -> memoryview:
        """Pack numbers of shape (rows, features), as a view of them if they are float32 in C order.

        Raises `Problem` unless they are few enough, finite, and within the range of float32.
        """
        self._check_count(len(values))
        if values.dtype == np.float32:
            floats = np.ascontiguousarray(values)
        else:
            with np.errstate(over="ignore"):
                floats = np.ascontiguousarray(values, dtype="<f4")
        finite = np.isfinite(floats)
        if not finite.all():
            row, column = divmod(int(finite.argmin()), len(self.feature_names))
            raise self._not_finite(row, self.feature_names[column], float(values[row, column]))
        return floats.data.cast("B")

    def refuse_excess(self, body: bytes | memoryview, max_rows: int | None = None, lists_per_row: int = 1) -> None:
        """Raise `Problem` (413) when a JSON body has more values, or more lists, than all rows allowed can have.

        To be asked before a body is decoded: what a decoder makes of one may be thirty times as large.
        """
        if len(body) < LONG_BYTES:
            return
        rows, width = self.max_rows if max_rows is None else max_rows, len(self.feature_names)
        beside = _BESIDE_ROWS + _PER_FEATURE * width
        # Tables may have a number for each row.
        if exceeds(bytes(body), rows * (width + 1) + beside, rows * lists_per_row + beside):
            limit = f"{rows} {'row' if rows == 1 else 'rows'} of {width}"
            message = f"the body has more values than {limit}, which are allowed in one request"
            raise Problem("too_many_rows", message, {"limit": rows})

    def is_large(self, body: bytes | memoryview) -> bool:
        """Whether a JSON body should be read as a matrix first; see `shokado.dialects.matrix`."""
        return len(body) >= LARGE_BYTES

    def pack_text(self, rows: msgspec.Raw) -> tuple[RequestRows, int] | None:
        """Pack the JSON of a list of lists of numbers, and count them; none when it is anything else, or one is bad."""
        values = read_rows(bytes(rows), len(self.feature_names))
        if values is None:
            return None
        try:
            return self.pack_array(values), len(values)
        except Problem:
            return None

    def truth_reader(self, body: Callable[[Any], Any]) -> Callable[[bytes], Any]:
        """What reads a body that could not be read with numbers alone: it gives nothing where truth values do not help.

        `body` makes the body's type of the rows'. Numbers are tried first, as they are the fast and the usual way.
        """
        if self.truth_row_type is None:
            return lambda _: None
        decode = msgspec.json.Decoder(body(self.truth_row_type)).decode

        def read(text: bytes) -> Any:
            try:
                return decode(text)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                return None

        return read

    def explain_body(
        self, body: bytes, key: str, reason: str, *, others: Sequence[str] = (), rows_in: RowsIn = _as_it_is
    ) -> Problem:
        """Why a JSON body was refused: `reason` is the strict decoder's.

        `key` names the field with the rows, `others` those that may have them instead. `rows_in` gives the list of rows
        of the field's value, or none where that cannot be read; it may raise `Problem`.
        """
        try:
            content = read_leniently(body)
        except Problem as problem:
            return problem
        if not isinstance(content, dict):
            return invalid("wrong_type", f"the body is {kind_of(content)}; an object with {key!r} belongs here")
        key = next((other for other in others if other in content and key not in content), key)
        if key not in content:
            return invalid("missing_field", f"the field {key!r} is missing", field=key)
        try:
            rows = rows_in(content[key])
            if isinstance(rows, list):
                if (found := self._first_fault(rows)) is not None:
                    return found
            elif rows is not None:
                message = f"the field {key!r} is {kind_of(rows)}; a list of rows belongs there"
                return invalid("wrong_type", message, field=key)
            refuse_half_characters(body, content)
            refuse_endless_numbers(content)
        except Problem as problem:
            return problem
        return invalid("wrong_type", reason)

    def explain(self, rows: Sequence[Any]) -> Problem:
        """The problem of the first bad row."""
        return self._first_fault(rows) or invalid("wrong_type", "the rows could not be read")

    def _check_count(self, rows: int) -> None:
        if not rows:
            raise invalid("no_rows", "there are no rows")
        if rows > self.max_rows:
            raise too_many_rows(rows, self.max_rows)

    def _first_fault(self, rows: Sequence[Any]) -> Problem | None:
        try:
            self._check_count(len(rows))
        except Problem as problem:
            return problem
        return next((fault for index, row in enumerate(rows) if (fault := self._fault(index, row))), None)

    def _fault(self, index: int, row: Any) -> Problem | None:
        if isinstance(row, dict):
            return self._fault_of_names(index, row) or self._fault_of_values(index, row.items())
        if isinstance(row, list):
            if len(row) != len(self.feature_names):
                expected = len(self.feature_names)
                message = f"row {index} has {len(row)} values; the model takes {expected}"
                return invalid("wrong_feature_count", message, row=index, expected=expected, got=len(row))
            return self._fault_of_values(index, zip(self.feature_names, row, strict=True))
        return invalid("wrong_type", f"row {index} is {kind_of(row)}; a list or an object belongs here", row=index)

    def _fault_of_names(self, index: int, row: dict[str, Any]) -> Problem | None:
        for name in row:
            if name not in self._known:
                shown = legible(name)
                message = f"row {index} has the unknown feature {shown!r}; known are {', '.join(self.feature_names)}"
                return invalid("unknown_feature", message, row=index, feature=shown)
        for name in self.feature_names:
            if name not in row:
                return invalid("missing_feature", f"row {index} lacks the feature {name!r}", row=index, feature=name)
        return None

    def _fault_of_values(self, index: int, values: Any) -> Problem | None:
        for name, value in values:
            if isinstance(value, bool) and name in self.booleans:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float):
                return self.no_number(index, name, value)
            try:
                number = float(value)
            except OverflowError:
                number = math.inf
            if not abs(number) <= FLOAT32_MAX:
                return self._not_finite(index, name, number)
        return None

    def no_number(self, row: int, feature: str, value: Any, instead: str = "") -> Problem:
        """The problem of a value that is none; `instead` says what to send, where the value does not."""
        instead = instead or _instead_of(value)
        message = f"row {row}, feature {feature!r}: {kind_of(value)} where a number belongs{instead and '; '}{instead}"
        return invalid("not_a_number", message, row=row, feature=feature)

    def _not_finite(self, row: int, feature: str, value: float) -> Problem:
        what = _NAN if math.isnan(value) else _INFINITE if math.isinf(value) else _TOO_LARGE
        return invalid("not_finite", f"row {row}, feature {feature!r}: the value is {what}", row=row, feature=feature)


_FILL_IN = "the model takes no missing values, so fill it in"
_NAN = f"NaN; {_FILL_IN}"
_INFINITE = "infinite; send a finite number"
_TOO_LARGE = f"beyond the range of float32; at most {FLOAT32_MAX:.2g} is"
_MISSING = frozenset(("", "na", "n/a", "nan", "null", "none", "?"))
"""How a table or a text says that a value is missing, in lower case."""


def _instead_of(value: Any) -> str:
    """What to send in place of a value that is no number, if that can be told."""
    if value is None or (isinstance(value, str) and value.strip().lower() in _MISSING):
        return _FILL_IN
    if not isinstance(value, str) or len(value) > _MAX_NUMBER_CHARACTERS:
        return ""
    try:
        number = float(value)
    except ValueError:
        return ""
    return "send the number itself, without quotes" if math.isfinite(number) else "send a finite number"


class _WrongCount(Exception):
    """An object with more or fewer names than there are features."""


def _whole(row: dict[str, float], width: int) -> dict[str, float]:
    """The row, if it has as many names as there are features."""
    if len(row) != width:
        raise _WrongCount
    return row


def kind_of(value: Any) -> str:
    """What a JSON value is, in a client's words."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case "":
            return "an empty text"
        case str():
            return f"the text {value[:40]!r}"
        case list():
            return "a list"
        case dict():
            return "an object"
        case float() if not math.isfinite(value):
            return "NaN" if math.isnan(value) else "infinity"
        case _:
            return f"the number {value}"


def example_rows(card: Card) -> list[Any]:
    """Two rows of the card's examples: the first by name, another as a list, or as it is where it is a text.

    Numbers have no more digits than their float32 needs.
    """
    first, other = card.examples.rows[0], card.examples.rows[-1]
    if isinstance(first, str) or isinstance(other, str):
        return [{card.feature_names[0]: first}, other]
    return [dict(zip(card.feature_names, map(_shortest, first), strict=True)), list(map(_shortest, other))]


def _shortest(value: float) -> float:
    return float(str(np.float32(value)))
