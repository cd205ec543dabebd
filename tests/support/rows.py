"""Row formats of models that exist only on paper, and rows of any numbers for them."""

from collections.abc import Collection, Iterable
from typing import Any

from hypothesis import strategies as st

from configuration.settings import LimitSettings
from runners.inputs.formats import row_format_of
from runners.inputs.precision import FLOAT32
from runners.inputs.rows import RowFormat
from runners.inputs.schema import Feature

NAMES = ("a", "b", "c", "d")
finite = st.floats(allow_nan=False, allow_infinity=False, min_value=-FLOAT32.largest, max_value=FLOAT32.largest)
numbers = st.one_of(finite, st.integers(-(2**64), 2**64))
lists = st.lists(numbers, min_size=4, max_size=4)
"""Rows of as many numbers as there are `NAMES`."""


@st.composite
def rows_and_values(draw: st.DrawFn) -> tuple[list[Any], list[list[float]]]:
    """Rows as lists or as objects in any order, and their values in the features' order."""
    values = draw(st.lists(lists, min_size=1, max_size=20))
    rows: list[Any] = []
    for row in values:
        order = draw(st.permutations(range(4))) if draw(st.booleans()) else None
        rows.append(row if order is None else {NAMES[index]: row[index] for index in order})
    return rows, values


def dense_format(names: Iterable[str], max_rows: int = 10_000, booleans: Collection[str] = ()) -> RowFormat:
    """Of features of numbers; `booleans` are those of them that may be truth values as well."""
    features = [Feature(name=name, type="boolean" if name in booleans else "float") for name in names]
    return row_format_of(features, LimitSettings(max_rows=max_rows))


def text_format(name: str, max_rows: int = 10_000, max_text_characters: int = 100_000) -> RowFormat:
    """Of one text."""
    limits = LimitSettings(max_rows=max_rows, max_text_characters=max_text_characters)
    return row_format_of([Feature(name=name, type="text")], limits)
