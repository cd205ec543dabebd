"""Explaining rows of a function by hand: what a worker's explainer does over an engine."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runners.explanations.shapley import RowContributions, SamplingPlan, explain_row

Function = Callable[[NDArray[Any]], NDArray[np.float64]]
"""Scores of rows, (rows, outputs)."""


def explained(
    function: Function, row: NDArray[Any], background: NDArray[Any], plan: SamplingPlan
) -> tuple[RowContributions, int]:
    """The contributions of a row, and how many rows were scored for them."""
    background = background[: plan.background_rows]
    explaining = explain_row(row, function(row[None])[0], background, function(background), plan)
    scored = 0
    try:
        batch = next(explaining)
        while True:
            scored += len(batch)
            batch = explaining.send(function(batch))
    except StopIteration as end:
        return end.value, scored


def base_of(function: Function, background: NDArray[Any], plan: SamplingPlan) -> NDArray[np.float64]:
    return np.asarray(function(background[: plan.background_rows]).mean(axis=0))
