"""The kinds of rows that models take: how one is drawn, and how the Open Inference Protocol has several."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol

import numpy as np

Row = list[float | int] | str
"""One row: a number for each feature, or a text."""

_WORDS = ("meeting", "offer", "free", "invoice", "tomorrow", "prize", "team", "click", "report", "account", "hello")


class RowKind(Protocol):
    """What the rows of a model are."""

    packed: bool
    """Whether a request may consist of rows as float32 alone."""

    def draw(self, random: Random) -> Row:
        """One row; the server scores any finite number, and any text."""
        ...

    def tensor(self, rows: Sequence[Any]) -> dict[str, Any]:
        """Name, datatype and shape of the tensor that these rows are."""
        ...

    def flat(self, rows: Sequence[Any]) -> list[Any]:
        """The tensor's elements in JSON."""
        ...

    def binary(self, rows: Sequence[Any]) -> bytes:
        """The tensor's elements in binary."""
        ...


@dataclass(frozen=True)
class NumberRowKind:
    """Rows of a number for each feature."""

    feature_types: tuple[str, ...]
    packed = True

    def draw(self, random: Random) -> Row:
        """Values of the features' types."""
        return [_draw(kind, random) for kind in self.feature_types]

    def tensor(self, rows: Sequence[Any]) -> dict[str, Any]:
        return {"name": "input", "datatype": "FP32", "shape": [len(rows), len(self.feature_types)]}

    def flat(self, rows: Sequence[Any]) -> list[Any]:
        return [value for row in rows for value in row]

    def binary(self, rows: Sequence[Any]) -> bytes:
        """float32, row by row."""
        return np.array(rows, "<f4").tobytes()


@dataclass(frozen=True)
class TextRowKind:
    """Rows of one text each, which is the feature `name`."""

    name: str
    packed = False

    def draw(self, random: Random) -> Row:
        """Some words."""
        return " ".join(random.choices(_WORDS, k=random.randint(3, 30)))

    def tensor(self, rows: Sequence[Any]) -> dict[str, Any]:
        return {"name": self.name, "datatype": "BYTES", "shape": [len(rows)]}

    def flat(self, rows: Sequence[Any]) -> list[Any]:
        return list(rows)

    def binary(self, rows: Sequence[Any]) -> bytes:
        """Each text after its length."""
        texts = [row.encode() for row in rows]
        return b"".join(struct.pack("<I", len(text)) + text for text in texts)


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
