"""Texts of a category: what the positions of its levels stand for."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from runners.inputs.columns import Category
from runners.inputs.schema import Feature

ANY_TEXT = ("any",)
"""The levels of a column of texts that a model drops: it takes all others alike."""


def spelt(feature: Feature, numbers: NDArray[Any], gap: Any = None) -> NDArray[Any]:
    """The texts that packed numbers [N] stand for: dtype object.

    What is missing is `gap`, and what is no level's another text than theirs.
    """
    texts = np.array([*feature.levels, spelt_other(feature), gap], dtype=object)
    positions = np.clip(np.nan_to_num(numbers), 0, len(feature.levels)).astype(np.int64)
    return np.asarray(texts[np.where(np.isnan(numbers), len(texts) - 1, positions)])


def spelt_other(feature: Feature) -> str:
    """A text that is none of a category's levels."""
    other = Category(feature.name, nullable=False, levels=feature.levels).spell(len(feature.levels))
    assert other is not None
    return other


def as_truths(numbers: NDArray[np.float64], gap: Any) -> "pd.Series[Any]":
    """A column of truth values as a training has it: of objects where some are missing, or are none at all."""
    if np.isin(numbers, (0, 1)).all():
        return pd.Series(numbers.astype(bool))
    values = [gap if np.isnan(number) else bool(number) if number in (0, 1) else number for number in numbers.tolist()]
    return pd.Series(values, dtype=object)
