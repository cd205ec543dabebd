"""Columns: the kinds of features there are. Each reads the cells of a table, and says what is wrong with a value.

All but a text are packed as a float32; an integer and a category come as the number that the model was trained with.
"""

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from runners.inputs.faults import InputFault
from runners.inputs.wording import is_unicode, kind_of

FLOAT32_MAX = float(np.finfo(np.float32).max)
_MAX_NUMBER_CHARACTERS = 40
"""The longest text that is looked at as a number: no finite float64 that a program writes has more."""
_FILL_IN = "the model takes no missing values, so fill it in"
_MISSING = frozenset(("", "na", "n/a", "nan", "null", "none", "?"))
"""How a table or a text says that a value is missing, in lower case."""
_TRUTHS = {"True": True, "TRUE": True, "true": True, "False": False, "FALSE": False, "false": False}
"""The truth values that pandas reads of tables, and in the first form of each writes to them."""


class Column(Protocol):
    """One feature of one kind."""

    @property
    def name(self) -> str: ...

    def read_cell(self, cell: str) -> Any:
        """The value that a cell of a table says; the cell itself where it says none, so that `fault` can name it."""
        ...

    def fault(self, row: int, value: Any) -> InputFault | None:
        """Why a value of JSON is not taken in this row, if it is not."""
        ...


@dataclass(frozen=True, slots=True)
class Number:
    """A number that float32 can hold."""

    name: str

    def read_cell(self, cell: str) -> float | bool | str:
        try:
            return cell if "_" in cell else float(cell)
        except ValueError:
            return _TRUTHS.get(cell, cell)

    def fault(self, row: int, value: Any) -> InputFault | None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return not_a_number(row, self.name, value)
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        return None if abs(number) <= FLOAT32_MAX else not_finite(row, self.name, number)


@dataclass(frozen=True, slots=True)
class Boolean(Number):
    """`true` or `false`, which mean 1 and 0, or a number."""

    def fault(self, row: int, value: Any) -> InputFault | None:
        # Without an argument, super() would look for the class as it was before it had slots.
        return None if isinstance(value, bool) else Number.fault(self, row, value)


@dataclass(frozen=True, slots=True)
class Text:
    """A text of up to `max_characters`.

    It may be empty and may hold any character, NUL included: the model's tokenizer takes them all. It may not hold half
    a surrogate pair, which no UTF-8 can say.
    """

    name: str
    max_characters: int

    def read_cell(self, cell: str) -> str:
        return cell

    def fault(self, row: int, value: Any) -> InputFault | None:
        where = f"row {row}, feature {self.name!r}"
        if not isinstance(value, str):
            message = f"{where}: {kind_of(value)} where a text belongs"
            return InputFault("not_a_text", message, row, self.name)
        if len(value) > self.max_characters:
            message = f"{where}: a text of {len(value)} characters; at most {self.max_characters} are allowed"
            return InputFault("text_too_long", message, row, self.name, {"limit": self.max_characters})
        if not is_unicode(value):
            message = f"{where}: the text holds half a surrogate pair, which is no character"
            return InputFault("not_unicode", message, row, self.name)
        return None


def not_a_number(row: int, feature: str, value: Any, instead: str = "") -> InputFault:
    """The fault of a value that is no number; `instead` says what to send, where the value does not."""
    instead = instead or _instead_of(value)
    message = f"row {row}, feature {feature!r}: {kind_of(value)} where a number belongs{instead and '; '}{instead}"
    return InputFault("not_a_number", message, row, feature)


def not_finite(row: int, feature: str, value: float) -> InputFault:
    """The fault of a number that float32 cannot hold, or that is none."""
    if math.isnan(value):
        what = f"NaN; {_FILL_IN}"
    elif math.isinf(value):
        what = "infinite; send a finite number"
    else:
        what = f"beyond the range of float32; at most {FLOAT32_MAX:.2g} is"
    return InputFault("not_finite", f"row {row}, feature {feature!r}: the value is {what}", row, feature)


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
