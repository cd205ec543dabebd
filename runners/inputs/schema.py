"""The schema of a model: which columns a row has, of which kinds, and as which tensor rows travel.

In: the features as a card has them, and the limits of a server. Out: columns, a datatype of the Open Inference Protocol
and a shape.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from operator import not_
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from configuration.settings import LimitSettings
from runners.inputs.columns import Boolean, Category, Column, Integer, Number, Text
from runners.inputs.datatypes import BYTES
from runners.inputs.precision import FLOAT32, FLOAT64, Precision

MAX_LEVELS = 2**20
"""A float32 tells their numbers, and the missing one, well apart."""
ROWS = -1
"""The side of a shape that may have any length."""


def _is_usual(precision: str) -> bool:
    return precision == FLOAT32.name


class Feature(BaseModel):
    """One input column as a card has it; `description` is for people.

    What is usual is not written: cards without categories or missing values, and their digests, stay as they were.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    type: Literal["float", "integer", "boolean", "category", "text"] = "float"
    """A category without levels comes as the number that the model was trained with.
    """
    description: str = ""
    nullable: bool = Field(default=False, exclude_if=not_)
    """Whether a value may be missing: `null`, an empty cell, NaN."""
    levels: tuple[str, ...] = Field(default=(), exclude_if=not_)
    """The levels of a category that comes as text, in the order of the numbers that they are for the model."""
    other: bool = Field(default=False, exclude_if=not_)
    """Whether any other level is taken as well, and treated alike."""
    precision: Literal["float32", "float64"] = Field(default="float32", exclude_if=_is_usual)
    """What a number needs to be told from its neighbours as the model does. Where one feature has float64, rows are
    packed so, all of their values."""

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if self.levels and self.type != "category":
            raise ValueError(f"{self.name}: a {self.type} has no levels")
        if len(set(self.levels)) != len(self.levels):
            raise ValueError(f"{self.name}: levels repeat")
        if len(self.levels) > MAX_LEVELS:
            raise ValueError(f"{self.name}: {len(self.levels)} levels; at most {MAX_LEVELS} are possible")
        if self.other and not self.levels:
            raise ValueError(f"{self.name}: only a category with levels has others")
        if self.nullable and self.type == "text":
            raise ValueError(f"{self.name}: a text cannot be missing")
        if self.precision == FLOAT64.name and self.type not in ("float", "integer"):
            raise ValueError(f"{self.name}: a {self.type} needs no {self.precision}")
        return self

    @property
    def is_typed(self) -> bool:
        """Whether not every value is a number."""
        return self.nullable or bool(self.levels)


@dataclass(frozen=True)
class Schema:
    """What a row is."""

    columns: tuple[Column, ...]
    datatype: str
    """As which rows travel in tensors, and how they are laid out here: `FP32`, `FP64` or `BYTES`. Where texts stand
    beside other columns it is `BYTES`, and there is a tensor for each column."""
    shape: tuple[int, ...]
    """A tensor's, `ROWS` for the side that has any length; batches are always of shape (rows, columns)."""
    is_typed: bool = False
    """Whether some columns have levels, or may be missing."""
    precision: Precision = FLOAT32
    """As what numbers are packed."""

    @classmethod
    def of(cls, features: Iterable[Feature], limits: LimitSettings) -> Self:
        """The schema of a model with these features."""
        features = tuple(features)
        is_wide = any(feature.precision == FLOAT64.name for feature in features)
        precision = FLOAT64 if is_wide else FLOAT32
        columns = tuple(_column(feature, limits, precision) for feature in features)
        if not any(isinstance(column, Text) for column in columns):
            is_typed = any(feature.is_typed for feature in features)
            return cls(columns, precision.datatype, (ROWS, len(columns)), is_typed, precision)
        if len(columns) > 1:
            return cls(columns, BYTES, (ROWS, len(columns)), is_typed=True, precision=precision)
        return cls(columns, BYTES, (ROWS,))

    @property
    def is_mixed(self) -> bool:
        """Whether texts stand beside other columns."""
        return self.datatype == BYTES and len(self.columns) > 1

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    @cached_property
    def layout(self) -> tuple[Any, ...]:
        """Equal for two schemas if rows that are packed for one are rows of the other as well."""
        return (self.datatype, *self.encoding)

    @cached_property
    def encoding(self) -> tuple[Column, ...]:
        """Equal for two schemas if packed numbers mean the same in both, in whichever precision they are."""
        return tuple(Number(each.name, each.nullable) if isinstance(each, Number) else each for each in self.columns)

    @cached_property
    def integers(self) -> frozenset[str]:
        """The names of the columns of whole numbers."""
        return frozenset(column.name for column in self.columns if isinstance(column, Integer))


def _column(feature: Feature, limits: LimitSettings, precision: Precision) -> Column:
    match feature.type:
        case "text":
            return Text(feature.name, limits.max_text_characters)
        case "boolean":
            return Boolean(feature.name, feature.nullable, precision)
        case "integer":
            return Integer(feature.name, feature.nullable, precision)
        case "category" if feature.levels:
            return Category(feature.name, feature.nullable, feature.levels, feature.other)
        case _:
            return Number(feature.name, feature.nullable, precision)
