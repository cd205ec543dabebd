"""Named rows: what the decoder of JSON makes of an object that has a value for each column, by name.

A struct takes half the time that a dictionary does: names need not be made, and each value is looked at by its column's
kind on the way. Its values are in the columns' order.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec.structs import astuple

from runners.inputs.columns import Category, Number

MAX_FIELDS = 32
"""Columns beyond which no struct is made: the decoder looks for a name field by field, from the one before on, which
takes longer than a dictionary where there are many and the names come in another order."""
_UNSPELT = frozenset(('"', "\\", *map(chr, range(32))))
"""What the name of a struct's field cannot have in it."""


def named_row_type(columns: Sequence[Number | Category]) -> Any:
    """A struct with a field for each column, in their order; None where there are too many, or a name cannot be spelt.

    The decoder refuses objects that lack a name or have others, and values of another kind than the column's.
    """
    if len(columns) > MAX_FIELDS or any(_UNSPELT.intersection(column.name) for column in columns):
        return None
    fields = [(f"value_{at}", column.json_type, msgspec.field(name=column.name)) for at, column in enumerate(columns)]
    return msgspec.defstruct("NamedRow", fields, forbid_unknown_fields=True, gc=False)


def as_sent(row: Any) -> Any:
    """The row as a list, if the decoder made a struct or a tuple of it, so that what is wrong with it can be said."""
    if isinstance(row, msgspec.Struct):
        row = astuple(row)
    return list(row) if isinstance(row, tuple) else row
