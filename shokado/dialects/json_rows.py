"""JSON bodies that hold rows: what is too much in one, how one is read again, and why one was refused.

In: the format of the rows, and a body that a dialect's strict decoder was or will be given.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec

from runners.inputs.faults import InputFault
from runners.inputs.rows import RowReader
from runners.inputs.wording import kind_of
from shokado.dialects.json_text import (
    LONG_BYTES,
    exceeds,
    read_leniently,
    refuse_endless_numbers,
    refuse_half_characters,
)
from shokado.dialects.problem import Problem, invalid, problem_of

AnyRow = TypeVar("AnyRow")
"""What a body's struct takes as a row: `row_type` of the format."""
RowsIn = Callable[[Any], Any]

_BESIDE_ROWS = 1024
"""Values, and lists, that a body may have beside its rows; for each feature, a tensor may say its name and shape."""
_PER_FEATURE = 8


def refuse_excess(
    row_format: RowReader, body: bytes | memoryview, max_rows: int | None = None, lists_per_row: int = 1
) -> None:
    """Raise `Problem` (413) when a JSON body has more values, or more lists, than all rows allowed can have.

    To be asked before a body is decoded: what a decoder makes of one may be thirty times as large.
    """
    if len(body) < LONG_BYTES:
        return
    rows, width = row_format.max_rows if max_rows is None else max_rows, len(row_format.feature_names)
    beside = _BESIDE_ROWS + _PER_FEATURE * width
    # Tables may have a number for each row.
    if exceeds(bytes(body), rows * (width + 1) + beside, rows * lists_per_row + beside):
        limit = f"{rows} {'row' if rows == 1 else 'rows'} of {width}"
        message = f"the body has more values than {limit}, which are allowed in one request"
        raise Problem("too_many_rows", message, {"limit": rows})


def truth_reader(row_format: RowReader, body: Callable[[Any], Any]) -> Callable[[bytes], Any]:
    """What reads a body that could not be read with quick rows alone: it gives nothing where others do not help either.

    `body` makes the body's type of the rows'. Quick ones are tried first, as they are the fast and the usual way.
    """
    if row_format.truth_row_type is None:
        return lambda _: None
    decode = msgspec.json.Decoder(body(row_format.truth_row_type)).decode

    def read(text: bytes) -> Any:
        try:
            return decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None

    return read


def explain_body(
    row_format: RowReader,
    body: bytes,
    key: str,
    reason: str,
    *,
    others: Sequence[str] = (),
    rows_in: RowsIn = lambda value: value,
) -> Problem:
    """Why a JSON body was refused: `reason` is the strict decoder's.

    `key` names the field with the rows, `others` those that may have them instead. `rows_in` gives the list of rows
    of the field's value, or None where that cannot be read; it may raise `Problem` and `InputFault`.
    """
    try:
        content = read_leniently(body)
        if not isinstance(content, dict):
            return invalid("wrong_type", f"the body is {kind_of(content)}; an object with {key!r} belongs here")
        key = next((other for other in others if other in content and key not in content), key)
        if key not in content:
            return invalid("missing_field", f"the field {key!r} is missing", field=key)
        rows = rows_in(content[key])
        if isinstance(rows, list):
            if (fault := row_format.first_fault(rows)) is not None:
                return problem_of(fault)
        elif rows is not None:
            message = f"the field {key!r} is {kind_of(rows)}; a list of rows belongs there"
            return invalid("wrong_type", message, field=key)
        refuse_half_characters(body, content)
        refuse_endless_numbers(content)
    except (Problem, InputFault) as refused:
        return problem_of(refused)
    return invalid("wrong_type", reason)


def one_given(**values: Any) -> Any:
    """The one value that is not `UNSET`: bodies may name a text in several ways. Raises `Problem`."""
    given = {name: value for name, value in values.items() if value is not msgspec.UNSET}
    if not given:
        first = next(iter(values))
        raise invalid("missing_field", f"the field {first!r} is missing", field=first)
    if len(given) > 1:
        message = f"one of {' and '.join(map(repr, given))} belongs here, not both"
        raise invalid("repeated_field", message, field=list(given)[1])
    return next(iter(given.values()))
