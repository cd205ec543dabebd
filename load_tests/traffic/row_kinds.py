"""The kinds of rows that models take: how one is drawn, and how the Open Inference Protocol has several."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol

import numpy as np

Row = list[float | int | str] | str
"""One row: a value for each feature, or a text."""

_DATATYPES = {"float32": "FP32", "float64": "FP64"}
_WORDS = ("meeting", "offer", "free", "invoice", "tomorrow", "prize", "team", "click", "report", "account", "hello")


@dataclass(frozen=True)
class DrawnFeature:
    """A column, as far as its values are drawn."""

    name: str
    type: str
    levels: tuple[str, ...] = ()
    precision: str = "float32"


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
    """Rows of a number or the level of a category for each feature."""

    features: tuple["DrawnFeature", ...]
    packed = False

    def draw(self, random: Random) -> Row:
        return [
            random.choice(feature.levels) if feature.levels else _draw(feature.type, random)
            for feature in self.features
        ]

    def tensors(self, rows: Sequence[Any]) -> list[dict[str, Any]]:
        """One for each feature."""
        return [
            {
                "name": feature.name,
                "datatype": "BYTES" if feature.levels else "FP32",
                "shape": [len(rows)],
                "data": [row[index] for row in rows],
            }
            for index, feature in enumerate(self.features)
        ]

    def binary(self, rows: Sequence[Any]) -> list[bytes]:
        columns = [[row[index] for row in rows] for index in range(len(self.features))]
        return [
            _lengths_and_texts(column) if feature.levels else np.array(column, "<f4").tobytes()
            for feature, column in zip(self.features, columns, strict=True)
        ]


@dataclass(frozen=True)
class TextRowKind:
    """Rows of one text each, which is the feature `name`."""

    name: str
    packed = False

    def draw(self, random: Random) -> Row:
        """Some words."""
        return " ".join(random.choices(_WORDS, k=random.randint(3, 30)))

    def tensors(self, rows: Sequence[Any]) -> list[dict[str, Any]]:
        return [{"name": self.name, "datatype": "BYTES", "shape": [len(rows)], "data": list(rows)}]

    def binary(self, rows: Sequence[Any]) -> list[bytes]:
        return [_lengths_and_texts(rows)]


def row_kind_of(features: tuple["DrawnFeature", ...]) -> RowKind:
    """What the rows of a model with these features are."""
    types = tuple(feature.type for feature in features)
    if types == ("text",):
        return TextRowKind(features[0].name)
    if any(feature.levels for feature in features):
        return TypedRowKind(features)
    is_wide = any(feature.precision == "float64" for feature in features)
    return NumberRowKind(types, "float64" if is_wide else "float32")


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
