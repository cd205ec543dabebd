"""Tables that the models learn from: rows of each shape, more that are held out, and what is to be learned."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from shokado.lifecycle.messages import generate_messages

TRAINED, MORE = 300, 80
GAP_SHARE = 0.12
"""Part of the values of a column with gaps that are missing."""
UNKNOWN = "unheard of"
"""A text that no training row has."""
GROUP_ROWS = 10
"""Rows that are ranked with each other."""
TEXT = "body"
_RANDOM = np.random.default_rng(14)


@dataclass(frozen=True, eq=False)
class Sample:
    """Rows of one shape.

    Attributes:
        title: what the document calls its columns.
        frame: the rows to learn from.
        held: rows that the models do not see, with gaps in the same columns, and texts `UNKNOWN`.
        value: a number to learn for each row of `frame`, positive.
    """

    title: str
    frame: pd.DataFrame
    held: pd.DataFrame
    value: NDArray[np.float64]

    @cached_property
    def two(self) -> NDArray[np.int64]:
        """0 or 1."""
        return (self.value > np.median(self.value)).astype(np.int64)

    @cached_property
    def yes(self) -> NDArray[Any]:
        """The same in texts."""
        return np.array(["no", "yes"])[self.two]

    @cached_property
    def three(self) -> NDArray[np.int64]:
        """0, 1 or 2."""
        return np.digitize(self.value, np.quantile(self.value, (1 / 3, 2 / 3)))

    @cached_property
    def sizes(self) -> NDArray[Any]:
        """The same in texts, whose order is another."""
        return np.array(["small", "middle", "large"])[self.three]

    @cached_property
    def count(self) -> NDArray[np.float64]:
        """Whole numbers."""
        return self.value.round()

    @cached_property
    def pair(self) -> NDArray[np.float64]:
        """Two numbers."""
        return np.column_stack([self.value, self.value[::-1] - self.value])

    @cached_property
    def flags(self) -> NDArray[np.int64]:
        """Two labels of 0 or 1."""
        return (self.pair > np.median(self.pair, axis=0)).astype(np.int64)

    @cached_property
    def flags_in_words(self) -> NDArray[Any]:
        """The same in texts."""
        return np.array(["no", "yes"])[self.flags]

    @cached_property
    def share(self) -> NDArray[np.float64]:
        """Between 0 and 1."""
        return np.asarray(self.value / (self.value.max() + 1))

    @cached_property
    def groups(self) -> NDArray[np.int64]:
        """Which rows are ranked with each other."""
        return np.arange(len(self.frame)) // GROUP_ROWS

    @property
    def texts(self) -> pd.Series:
        """The texts of rows that are one."""
        return self.frame[TEXT]

    @property
    def has_gaps(self) -> bool:
        return bool(self.frame.isna().to_numpy().any())


def _sample(title: str, rows: pd.DataFrame, value: Any) -> Sample:
    noisy = np.asarray(value + _RANDOM.normal(scale=np.std(value) / 4, size=len(rows)))
    positive = (noisy - noisy.min() + 1)[:TRAINED]
    return Sample(title, rows[:TRAINED], rows[TRAINED:].reset_index(drop=True), positive)


def _with_gaps(rows: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Each column has one within the first rows, which are the input example: MLflow's signature then says so."""
    gaps = _RANDOM.random((len(rows), len(columns))) < GAP_SHARE
    gaps[range(len(columns)), range(len(columns))] = True
    missing = pd.DataFrame(gaps, rows.index, columns)
    return rows.assign(**{name: rows[name].mask(missing[name]) for name in columns})


def _with_unknown(rows: pd.DataFrame) -> pd.DataFrame:
    """Texts that were never learned, in some of the rows that are held out."""
    changed = rows.copy()
    changed.loc[TRAINED + 3 :: 9, "port"] = UNKNOWN
    changed.loc[TRAINED + 5 :: 11, "deck"] = UNKNOWN
    return changed


_COUNT = TRAINED + MORE
_MEASURES = pd.DataFrame(
    {
        "width": _RANDOM.normal(20, 6, _COUNT).round(2),
        "depth": _RANDOM.uniform(0, 50, _COUNT).round(1),
        "weight": _RANDOM.exponential(3, _COUNT).round(3),
        "visits": _RANDOM.integers(0, 40, _COUNT),
    }
)
_NARROW = _MEASURES.astype(np.float32)
_LEARNED = _MEASURES.width + _MEASURES.depth / 3 - 2 * _MEASURES.weight + _MEASURES.visits / 4
_PASSENGERS = pd.DataFrame(
    {
        "age": _RANDOM.normal(40, 12, _COUNT).round(1),
        "fare": _RANDOM.exponential(30, _COUNT).round(2),
        "sex": _RANDOM.choice(["female", "male"], _COUNT),
        "port": _RANDOM.choice(["C", "Q", "S", "Zürich ✓"], _COUNT, p=[0.2, 0.2, 0.5, 0.1]),
        "deck": _RANDOM.choice(["1", "2", "3"], _COUNT),
    }
)
_SPENT = _PASSENGERS.fare / 3 + (_PASSENGERS.sex == "female") * 15 - _PASSENGERS.age / 5 + (_PASSENGERS.port == "C") * 9
_TEXTS, _SPAM = generate_messages(_COUNT, 1)
_NOTED = _PASSENGERS.assign(note=_TEXTS[:, 0])

NUMBERS = _sample("numbers", _MEASURES, _LEARNED)
GAPS = _sample("numbers with gaps", _with_gaps(_MEASURES, list(_MEASURES)), _LEARNED)
FLOATS = _sample("numbers of float32", _NARROW, _LEARNED)
FLOAT_GAPS = _sample("numbers of float32 with gaps", _with_gaps(_NARROW, list(_MEASURES)), _LEARNED)
FLAGS = _sample(
    "numbers and truth values",
    _MEASURES[["width", "depth"]].assign(new=_MEASURES.visits > 20, sold=_MEASURES.weight > 2),
    _LEARNED,
)
ONE = _sample("one number", _MEASURES[["width"]], _MEASURES.width)
COLUMNS = _sample("numbers and texts", _with_unknown(_PASSENGERS), _SPENT)
MIXED = _sample("numbers and texts with gaps", _with_unknown(_with_gaps(_PASSENGERS, ["age", "fare", "port"])), _SPENT)
NOTES = _sample("numbers and texts, one of them free", _with_unknown(_NOTED), _SPENT + 20 * _SPAM)
_LENGTHS = np.array([len(text) for text in _TEXTS[:, 0]])
TEXTS = _sample("a text", pd.DataFrame({TEXT: _TEXTS[:, 0]}), _LENGTHS + 90 * _SPAM)
WITH_ONE = _sample("numbers and 1", _MEASURES.assign(const=1.0), _LEARNED)
_MEASURED = _MEASURES[["width", "depth", "weight"]] + _RANDOM.normal(0, 0.01, (_COUNT, 3))
MEASURED = _sample("measurements with gaps", _with_gaps(_MEASURED, list(_MEASURED)), _LEARNED)
