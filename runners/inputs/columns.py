"""Columns: the kinds of features there are. Each reads the cells of a table, and says what is wrong with a value.

All but a text are packed as numbers of the model's precision, float32 or float64. A category with levels is the
position of its level, which its `encode` looks up; one without, and an integer, come as the number that the model was
trained with. What is missing is NaN.
"""

import difflib
import math
from dataclasses import dataclass, field
from typing import Annotated, Any, Protocol

import msgspec

from runners.inputs.faults import InputFault
from runners.inputs.precision import FLOAT32, Precision
from runners.inputs.wording import is_unicode, kind_of

_SPELT_BELOW = 10**20
"""Larger numbers are said by their power of ten."""
_MAX_NUMBER_CHARACTERS = 40
"""The longest text that is looked at as a number: no finite float64 that a program writes has more."""
_FILL_IN = "the model takes no missing values, so fill it in"
_MOST_COMPARED = 1000
"""So many levels a text is compared with to find the nearest: a wrong one should cost little more than a right one."""
_LONGEST_COMPARED = 100
"""So many characters a text may have that is compared."""
_SHOWN_LEVELS = 10
_MISSING = frozenset(("", "na", "n/a", "nan", "null", "none", "?"))
"""How a table or a text says that a number is missing, in lower case."""
MISSING_TEXTS = frozenset(
    (
        "",
        "#N/A",
        "#N/A N/A",
        "#NA",
        "-1.#IND",
        "-1.#QNAN",
        "-NaN",
        "-nan",
        "1.#IND",
        "1.#QNAN",
        "<NA>",
        "N/A",
        "NA",
        "NULL",
        "NaN",
        "None",
        "n/a",
        "nan",
        "null",
    )
)
"""The cells of a table that pandas reads as a missing text, to the letter: "na" and " NA" are texts, as in JSON."""
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
    """A number that the precision can hold."""

    name: str
    nullable: bool = False
    precision: Precision = FLOAT32

    @property
    def json_type(self) -> Any:
        """What a decoder takes of JSON for a value, which is packed as it is if it is in range; None is NaN."""
        return float | None if self.nullable else float

    def encode(self, value: Any) -> float:
        """The number; NaN where it is missing and may be. Raises `TypeError` for what is none."""
        kind = type(value)
        if kind is float or kind is int:
            return value  # type: ignore[no-any-return]
        if value is None and self.nullable:
            return math.nan
        raise TypeError

    def read_cell(self, cell: str) -> float | bool | str | None:
        if self.nullable and (cell in MISSING_TEXTS or cell.strip().lower() in _MISSING):
            return None
        try:
            return cell if "_" in cell else float(cell)
        except ValueError:
            return _TRUTHS.get(cell, cell)

    def spell(self, number: float) -> float | None:
        """The value of JSON that is packed as this number, with no more digits than it needs."""
        return None if math.isnan(number) else self.precision.spell(number)

    def number_fault(self, row: int, number: float) -> InputFault | None:
        """Why a packed number is not taken in this row, if it is not."""
        if math.isnan(number) and self.nullable:
            return None
        return self._fault_of(row, number)

    def fault(self, row: int, value: Any) -> InputFault | None:
        if self.nullable and (value is None or (isinstance(value, float) and math.isnan(value))):
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            return not_a_number(row, self.name, value)
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        return self._fault_of(row, number)

    def _fault_of(self, row: int, number: float) -> InputFault | None:
        is_held = abs(number) <= self.precision.largest
        return None if is_held else not_finite(row, self.name, number, self.precision)


@dataclass(frozen=True, slots=True)
class Integer(Number):
    """A whole number, which is never rounded: one that the precision cannot hold is refused."""

    def read_cell(self, cell: str) -> float | bool | str | None:
        """A whole number with all its digits, so that who is told that it would be rounded is told of that one."""
        number = Number.read_cell(self, cell)
        is_large = isinstance(number, float) and self.precision.whole < abs(number) < _SPELT_BELOW
        return int(cell) if is_large and cell.strip().lstrip("+-").isdecimal() else number

    @property
    def json_type(self) -> Any:
        """Numbers up to where all whole ones are exact: beyond, each must be looked at."""
        whole = float(self.precision.whole)
        bounded = Annotated[float, msgspec.Meta(ge=-whole, le=whole)]
        return bounded | None if self.nullable else bounded

    def encode(self, value: Any) -> float:
        number = Number.encode(self, value)
        whole = self.precision.whole
        if -whole <= number <= whole or math.isnan(number) or self.precision.holds(number):
            return number
        raise OverflowError

    def fault(self, row: int, value: Any) -> InputFault | None:
        found = Number.fault(self, row, value)
        if found is not None or value is None or math.isnan(value) or self.precision.holds(value):
            return found
        return not_exact(row, self.name, value, self.precision)


@dataclass(frozen=True, slots=True)
class Boolean(Number):
    """`true` or `false`, which mean 1 and 0, or a number."""

    @property
    def json_type(self) -> Any:
        return bool | float | None if self.nullable else bool | float

    def encode(self, value: Any) -> float:
        return value if type(value) is bool else Number.encode(self, value)

    def fault(self, row: int, value: Any) -> InputFault | None:
        # Without an argument, super() would look for the class as it was before it had slots.
        return None if isinstance(value, bool) else Number.fault(self, row, value)


class _Positions(dict[Any, float]):
    """The position of each level, NaN of a missing value; of any other text what is told."""

    other: float | None = None

    def __missing__(self, value: Any) -> float:
        if isinstance(value, float) and math.isnan(value):
            return self[None]
        if self.other is None or type(value) is not str:
            raise KeyError(value)
        return self.other


@dataclass(frozen=True, slots=True)
class Category:
    """One of some texts, its levels; with `other` also any other text, whose number follows theirs."""

    name: str
    nullable: bool
    levels: tuple[str, ...]
    other: bool = False
    _positions: _Positions = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        positions = _Positions({level: float(position) for position, level in enumerate(self.levels)})
        if self.nullable:
            positions[None] = math.nan
        if self.other:
            positions.other = float(len(self.levels))
        object.__setattr__(self, "_positions", positions)

    @property
    def json_type(self) -> Any:
        """What a decoder takes of JSON for a value, which may be no level."""
        return str | None if self.nullable else str

    @property
    def last(self) -> int:
        """The largest number that a value is packed as."""
        return len(self.levels) - (not self.other)

    @property
    def encode(self) -> Any:
        """Looks up the number of a value. Raises `KeyError` and `TypeError` for what is no level."""
        return self._positions.__getitem__

    def read_cell(self, cell: str) -> str | None:
        return None if cell in MISSING_TEXTS and cell not in self._positions else cell

    def spell(self, number: float) -> str | None:
        """The value of JSON that is packed as this number."""
        if math.isnan(number):
            return None
        if number < len(self.levels):
            return self.levels[int(number)]
        name = "other"
        while name in self._positions:
            name += "_"
        return name

    def number_fault(self, row: int, number: float) -> InputFault | None:
        """Why a packed number is not taken in this row, if it is not."""
        if (math.isnan(number) and self.nullable) or (number in range(self.last + 1)):
            return None
        what = "NaN" if math.isnan(number) else f"the number {number:g}"
        message = f"row {row}, feature {self.name!r}: {what} is no level's; packed rows have 0 to {self.last} there"
        return InputFault("unknown_level", message, row, self.name)

    def fault(self, row: int, value: Any) -> InputFault | None:
        try:
            self._positions[value]
        except (KeyError, TypeError):
            return self._unknown(row, value)
        return None

    def _unknown(self, row: int, value: Any) -> InputFault:
        where = f"row {row}, feature {self.name!r}"
        if not isinstance(value, str):
            fill_in = f"; {_FILL_IN}" if value is None or (isinstance(value, float) and math.isnan(value)) else ""
            message = f"{where}: {kind_of(_as_sent(value))} where one of its levels belongs, as a text{fill_in}"
            return InputFault("not_a_text", message, row, self.name)
        nearest = None
        if len(value) <= _LONGEST_COMPARED and len(self.levels) <= _MOST_COMPARED:
            nearest = next(iter(difflib.get_close_matches(value, self.levels, 1, 0.5)), None)
        if nearest is not None:
            advice, beside = f"the nearest is {nearest!r}", {"nearest": nearest}
        else:
            rest = ", .." if len(self.levels) > _SHOWN_LEVELS else ""
            advice, beside = f"known are {', '.join(map(repr, self.levels[:_SHOWN_LEVELS]))}{rest}", {}
        message = f"{where}: {kind_of(value)} is none of its {len(self.levels)} levels; {advice}"
        return InputFault("unknown_level", message, row, self.name, beside)


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
            message = f"{where}: {kind_of(_as_sent(value))} where a text belongs"
            return InputFault("not_a_text", message, row, self.name)
        if len(value) > self.max_characters:
            message = f"{where}: a text of {len(value)} characters; at most {self.max_characters} are allowed"
            return InputFault("text_too_long", message, row, self.name, {"limit": self.max_characters})
        if not is_unicode(value):
            message = f"{where}: the text holds half a surrogate pair, which is no character"
            return InputFault("not_unicode", message, row, self.name)
        return None


def spelt(column: Column, value: Any) -> Any:
    """A packed value as JSON has it: of a level its text, None for what is missing, no more digits than it needs."""
    if isinstance(value, str) or not isinstance(column, Number | Category):
        return value
    return column.spell(math.nan if value is None else value)


def _as_sent(value: Any) -> Any:
    """The value that a client sent: JSON's 1 has become 1.0 on the way."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def not_a_number(row: int, feature: str, value: Any, instead: str = "") -> InputFault:
    """The fault of a value that is no number; `instead` says what to send, where the value does not."""
    instead = instead or _instead_of(value)
    message = f"row {row}, feature {feature!r}: {kind_of(value)} where a number belongs{instead and '; '}{instead}"
    return InputFault("not_a_number", message, row, feature)


def not_finite(row: int, feature: str, value: float, precision: Precision = FLOAT32) -> InputFault:
    """The fault of a number that the precision cannot hold, or that is none."""
    if math.isnan(value):
        what = f"NaN; {_FILL_IN}"
    elif math.isinf(value):
        what = "infinite; send a finite number"
    else:
        what = f"beyond the range of {precision.name}; at most {precision.largest:.2g} is"
    return InputFault("not_finite", f"row {row}, feature {feature!r}: the value is {what}", row, feature)


def not_exact(row: int, feature: str, value: float, precision: Precision) -> InputFault:
    """The fault of a whole number that would be rounded."""
    is_whole = isinstance(value, int) or value.is_integer()
    given = f"{value:g}" if abs(value) >= _SPELT_BELOW else int(value) if is_whole else value
    beyond = "some" if precision is FLOAT32 else "none"
    message = (
        f"row {row}, feature {feature!r}: {given!s:.{_MAX_NUMBER_CHARACTERS}} would be rounded; the model takes whole "
        f"numbers as {precision.name}, which has all up to {precision.whole}, and {beyond} beyond"
    )
    return InputFault("not_exact", message, row, feature, {"limit": precision.whole})


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
