"""The schema of a model: which columns a row has, of which kinds, and as which tensor rows travel.

In: the features as a card has them, and the limits of a server. Out: columns, a datatype of the Open Inference Protocol
and a shape.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from configuration.settings import LimitSettings
from runners.inputs.columns import Boolean, Column, Number, Text
from runners.inputs.datatypes import BYTES

ROWS = -1
"""The side of a shape that may have any length."""


class Feature(BaseModel):
    """One input column as a card has it; `description` is for people."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    type: Literal["float", "integer", "boolean", "category", "text"] = "float"
    """A text is a model's only feature. Integers and categories come as numbers, as the model was trained with them."""
    description: str = ""


@dataclass(frozen=True)
class Schema:
    """What a row is."""

    columns: tuple[Column, ...]
    datatype: str
    """As which rows travel in tensors, and how they are laid out here: `FP32` or `BYTES`."""
    shape: tuple[int, ...]
    """A tensor's, `ROWS` for the side that has any length; batches are always of shape (rows, columns)."""

    @classmethod
    def of(cls, features: Iterable[Feature], limits: LimitSettings) -> Self:
        """Raises `ValueError` where a text is not the only feature."""
        columns = tuple(_column(feature, limits) for feature in features)
        if not any(isinstance(column, Text) for column in columns):
            return cls(columns, "FP32", (ROWS, len(columns)))
        if len(columns) > 1:
            raise ValueError("a text must be the only feature")
        return cls(columns, BYTES, (ROWS,))

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)


def _column(feature: Feature, limits: LimitSettings) -> Column:
    match feature.type:
        case "text":
            return Text(feature.name, limits.max_text_characters)
        case "boolean":
            return Boolean(feature.name)
        case _:
            return Number(feature.name)
