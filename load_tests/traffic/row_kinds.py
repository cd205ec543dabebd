"""The kinds of rows that models take: how one is drawn, and how the Open Inference Protocol has several."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol

import numpy as np

Row = list[float | int | str] | dict[str, float | int | str] | str
"""One row: a value for each feature, also by name, or a text."""

_DATATYPES = {"float32": "FP32", "float64": "FP64"}
_WORDS = ("meeting", "offer", "free", "invoice", "tomorrow", "prize", "team", "click", "report", "account", "hello")


@dataclass(frozen=True)
class DrawnFeature:
    """A column, as far as its values are drawn."""

    name: str
    type: str
    levels: tuple[str, ...] = ()
    precision: str = "float32"

    @property
    def is_text(self) -> bool:
        """Whether its values are texts: levels, or words."""
        return bool(self.levels) or self.type == "text"

    def draw(self, random: Random) -> float | int | str:
        if self.levels:
            return random.choice(self.levels)
        return _words(random) if self.is_text else _draw(self.type, random)


class RowKind(Protocol):
    """What the rows of a model are."""

    packed: bool
    """Whether a request may consist of packed numbers alone."""

    def draw(self, random: Random) -> Row:
        """One row; the server scores any finite number, and any text."""
        ...

    def tensors(self, rows: Sequence[Any]) -> list[dict[str, Any]]:
        """The tensors that these rows are, with their elements in JSON."""
        ...

    def binary(self, rows: Sequence[Any]) -> list[bytes]:
        """The elements of each of these tensors in binary."""
        ...


@dataclass(frozen=True)
class NumberRowKind:
    """Rows of a number for each feature."""

    feature_types: tuple[str, ...]
    precision: str = "float32"
    packed = True

    def draw(self, random: Random) -> Row:
        """Values of the features' types."""
        return [_draw(kind, random) for kind in self.feature_types]

    def tensors(self, rows: Sequence[Any]) -> list[dict[str, Any]]:
        """One matrix."""
        values = [value for row in rows for value in row]
        datatype, shape = _DATATYPES[self.precision], [len(rows), len(self.feature_types)]
        return [{"name": "input", "datatype": datatype, "shape": shape, "data": values}]

    def binary(self, rows: Sequence[Any]) -> list[bytes]:
        """In the model's precision, row by row."""
        return [np.array(rows, self.precision).tobytes()]


@dataclass(frozen=True)
class TypedRowKind:
    """Rows of a number, the level of a category or a text for each feature."""

    features: tuple["DrawnFeature", ...]
    packed = False

    def draw(self, random: Random) -> list[float | int | str]:
        return [feature.draw(random) for feature in self.features]

    def tensors(self, rows: Sequence[Any]) -> list[dict[str, Any]]:
        """One for each feature."""
        return [
            {
                "name": feature.name,
                "datatype": "BYTES" if feature.is_text else "FP32",
                "shape": [len(rows)],
                "data": [row[index] for row in rows],
            }
            for index, feature in enumerate(self.features)
        ]

    def binary(self, rows: Sequence[Any]) -> list[bytes]:
        columns = [[row[index] for row in rows] for index in range(len(self.features))]
        return [
            _lengths_and_texts(column) if feature.is_text else np.array(column, "<f4").tobytes()
            for feature, column in zip(self.features, columns, strict=True)
        ]


@dataclass(frozen=True)
class NamedRowKind:
    """The same by name, for versions of which each takes its own features."""

    features: tuple["DrawnFeature", ...]
    packed = False

    def draw(self, random: Random) -> Row:
        values = TypedRowKind(self.features).draw(random)
        return {feature.name: value for feature, value in zip(self.features, values, strict=True)}

    def tensors(self, rows: Sequence[Any]) -> list[dict[str, Any]]:
        """One for each feature."""
        return TypedRowKind(self.features).tensors([list(row.values()) for row in rows])

    def binary(self, rows: Sequence[Any]) -> list[bytes]:
        return TypedRowKind(self.features).binary([list(row.values()) for row in rows])


@dataclass(frozen=True)
class TextRowKind:
    """Rows of one text each, which is the feature `name`."""

    name: str
    packed = False

    def draw(self, random: Random) -> Row:
        """Some words."""
        return _words(random)

    def tensors(self, rows: Sequence[Any]) -> list[dict[str, Any]]:
        return [{"name": self.name, "datatype": "BYTES", "shape": [len(rows)], "data": list(rows)}]

    def binary(self, rows: Sequence[Any]) -> list[bytes]:
        return [_lengths_and_texts(rows)]


_NARROWEST = ("boolean", "category", "integer", "float")
"""Kinds of numbers: each is taken where one of those behind it is."""


def united(versions: Sequence[tuple["DrawnFeature", ...]]) -> tuple["DrawnFeature", ...]:
    """What any of some versions takes, each feature with values that all of those take that have it."""
    taken: dict[str, list[DrawnFeature]] = {}
    for features in versions:
        for feature in features:
            taken.setdefault(feature.name, []).append(feature)
    return tuple(_common(several) for several in taken.values())


def _common(several: Sequence["DrawnFeature"]) -> "DrawnFeature":
    first = several[0]
    if first.type == "text":
        return first
    levels = tuple(level for level in first.levels if all(level in other.levels for other in several))
    kind = first.type if levels else min((each.type for each in several), key=_NARROWEST.index)
    return DrawnFeature(first.name, kind, levels)


def row_kind_of(features: tuple["DrawnFeature", ...], *, by_name: bool = False) -> RowKind:
    """What the rows of a model with these features are; `by_name`: its versions do not all take them alike."""
    types = tuple(feature.type for feature in features)
    if by_name:
        return NamedRowKind(features)
    if types == ("text",):
        return TextRowKind(features[0].name)
    if any(feature.is_text for feature in features):
        return TypedRowKind(features)
    is_wide = any(feature.precision == "float64" for feature in features)
    return NumberRowKind(types, "float64" if is_wide else "float32")


def _words(random: Random) -> str:
    return " ".join(random.choices(_WORDS, k=random.randint(3, 30)))


def _lengths_and_texts(texts: Sequence[str]) -> bytes:
    """Each text after its length."""
    encoded = [text.encode() for text in texts]
    return b"".join(struct.pack("<I", len(text)) + text for text in encoded)


def _draw(kind: str, random: Random) -> Any:
    match kind:
        case "boolean":
            return random.randint(0, 1)
        case "category":
            return random.randint(0, 4)
        case "integer":
            return random.randint(0, 1000)
        case _:
            return round(random.uniform(0, 100), 2)
