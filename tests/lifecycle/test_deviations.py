"""A refusal says why a file differs from its framework, and what would help."""

import dataclasses
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from shokado.lifecycle.errors import VerificationFailed
from tests.lifecycle.test_verification import FRAME, OTHER, TARGETS, WIDE, WIDE_TARGETS, stranger, verified


@pytest.mark.parametrize("factor", [1, 1000.0], ids=["epoch seconds", "epoch milliseconds as double"])
@pytest.mark.parametrize("example_rows", [1, 5])
def test_a_feature_that_does_not_survive_float32_is_named(factor: float, example_rows: int, tmp_path: Path) -> None:
    frame = FRAME.assign(seen_at=FRAME["seen_at"] * factor)
    model = HistGradientBoostingRegressor(max_iter=30).fit(frame, TARGETS)
    with pytest.raises(VerificationFailed, match="The feature 'seen_at' needs more digits than rows have here"):
        verified(stranger(model, frame, example_rows), tmp_path)


def test_a_histogram_behind_steps_that_are_computed_in_float32_is_refused(tmp_path: Path) -> None:
    model = make_pipeline(PolynomialFeatures(2), HistGradientBoostingRegressor(max_iter=30)).fit(WIDE, WIDE_TARGETS)
    with pytest.raises(VerificationFailed, match="stands behind steps that ONNX computes in float32"):
        verified(stranger(model, WIDE), tmp_path)


@pytest.mark.parametrize("model", [KNeighborsClassifier(4), make_pipeline(StandardScaler(), KNeighborsClassifier(4))])
def test_neighbours_that_are_equally_far_are_a_reason_to_refuse(model: Any, tmp_path: Path) -> None:
    """Nobody says that the columns have whole numbers, but for what the model has learned."""
    rows = OTHER.integers(0, 20, (600, 4))
    labels = rows.sum(axis=1) + OTHER.integers(-8, 8, 600) > 38
    source = dataclasses.replace(stranger(model.fit(rows, labels), pd.DataFrame(rows)), signature=None)
    with pytest.raises(VerificationFailed, match="Of neighbours that are equally far"):
        verified(source, tmp_path)


@pytest.mark.parametrize("factor", [1, 1000], ids=["seconds", "milliseconds"])
@pytest.mark.parametrize("kind", ["int64", "float64"])
def test_a_line_over_time_stamps_is_measured_near_its_example(factor: int, kind: str, tmp_path: Path) -> None:
    seconds = 1_700_000_000 + OTHER.integers(0, 20_000, 300)
    frame = pd.DataFrame({"width": FRAME["width"], "seen_at": (seconds * factor).astype(kind)})
    model = LinearRegression().fit(frame, seconds % 20_000 / 5000)
    with pytest.raises(VerificationFailed, match=r"'seen_at' needs more digits .* one row does not tell how far"):
        verified(stranger(model, frame), tmp_path)
    with pytest.raises(VerificationFailed, match="'seen_at' needs more digits"):
        verified(stranger(model, frame, 5), tmp_path)
    years = frame.assign(seen_at=(FRAME["seen_at"] * factor).astype(kind))
    verified(stranger(LinearRegression().fit(years, TARGETS), years, 5), tmp_path)
