"""What stands for a step of scikit-learn gives in ONNX Runtime what the step gives, to float64's digits."""

from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from skl2onnx import to_onnx
from skl2onnx.common.data_types import DoubleTensorType
from sklearn.cluster import KMeans
from sklearn.decomposition import FactorAnalysis, FastICA, SparsePCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.feature_selection import SelectKBest, SequentialFeatureSelector
from sklearn.impute import KNNImputer
from sklearn.impute._iterative import IterativeImputer
from sklearn.kernel_approximation import Nystroem, RBFSampler
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    Normalizer,
    PowerTransformer,
    QuantileTransformer,
    SplineTransformer,
)
from sklearn.random_projection import SparseRandomProjection
from sklearn.tree import DecisionTreeRegressor

from shokado.lifecycle.errors import UnsupportedModel
from shokado.lifecycle.importing.numeric_steps import FLOORS, FUNCTIONS
from shokado.lifecycle.importing.stand_ins import convertible, is_replaced

Rows = NDArray[np.float64]
RANDOM = np.random.default_rng(8)
ROWS = RANDOM.normal((3, -2, 40), (1, 5, 12), (200, 3))
TARGET = (ROWS[:, 0] + ROWS[:, 1] / 5 + RANDOM.normal(0, 0.3, 200) > 2.6).astype(int)
BEYOND = np.vstack([ROWS[:40], ROWS.min(axis=0), ROWS.max(axis=0), RANDOM.normal((3, -2, 40), (4, 20, 50), (60, 3))])
"""Rows of the training, its ends, and rows far beyond it."""


def with_gaps(rows: Rows, missing: float = np.nan) -> Rows:
    """In each column, and in all of them."""
    gaps = np.random.default_rng(9).random(rows.shape) < 0.3
    gaps[:3] = True
    return np.where(gaps, missing, rows)


def often(rows: Rows) -> Rows:
    """Numbers of which there are many."""
    return np.round(rows / 4)


GAPS, BEYOND_GAPS = with_gaps(ROWS), with_gaps(BEYOND)
STEPS: dict[str, tuple[Any, Rows, Rows]] = {
    "curves": (SplineTransformer(), ROWS, BEYOND),
    "curves, linear beyond": (SplineTransformer(extrapolation="linear"), ROWS, BEYOND),
    "curves of degree 1, linear beyond": (SplineTransformer(degree=1, extrapolation="linear"), ROWS[:, :1],
                                          BEYOND[:, :1]),
    "curves that go on": (SplineTransformer(4, extrapolation="continue", include_bias=False), ROWS, BEYOND),
    "curves that come again": (SplineTransformer(6, extrapolation="periodic"), ROWS, BEYOND),
    "curves between quantiles": (SplineTransformer(7, degree=2, knots="quantile"), ROWS, BEYOND),
    "curves over gaps": (SplineTransformer(handle_missing="zeros"), ROWS, BEYOND_GAPS),
    "curves of one column": (SplineTransformer(), ROWS[:, :1], BEYOND[:, :1]),
    "neighbours": (KNNImputer(), GAPS, BEYOND_GAPS),
    "one neighbour": (KNNImputer(n_neighbors=1), GAPS, BEYOND_GAPS),
    "neighbours by distance": (KNNImputer(weights="distance"), GAPS, np.vstack([BEYOND_GAPS, GAPS])),
    "more neighbours than rows": (KNNImputer(n_neighbors=50), GAPS[:30], BEYOND_GAPS),
    "neighbours, and where": (KNNImputer(add_indicator=True), GAPS, BEYOND_GAPS),
    "neighbours for a number": (KNNImputer(missing_values=-999.0), with_gaps(ROWS, -999), with_gaps(BEYOND, -999)),
    "neighbours, a column without any": (KNNImputer(), np.column_stack([GAPS, np.full(200, np.nan)]),
                                         np.column_stack([BEYOND_GAPS, BEYOND[:, 0]])),
    "lines in rounds": (IterativeImputer(random_state=0), GAPS, BEYOND_GAPS),
    "lines of few columns": (IterativeImputer(Ridge(), n_nearest_features=1, random_state=0, max_iter=3), GAPS,
                             BEYOND_GAPS),
    "lines within bounds, and where": (IterativeImputer(LinearRegression(), min_value=-20, max_value=50, random_state=0,
                                                        add_indicator=True), GAPS, BEYOND_GAPS),
    "no rounds": (IterativeImputer(max_iter=0), GAPS, BEYOND_GAPS),
    "normal quantiles": (QuantileTransformer(n_quantiles=40, output_distribution="normal"), ROWS, BEYOND_GAPS),
    "normal quantiles of few numbers": (QuantileTransformer(n_quantiles=200, output_distribution="normal"), often(ROWS),
                                        np.vstack([often(BEYOND), BEYOND / 4])),
    "powers": (PowerTransformer(), ROWS, BEYOND_GAPS),
    "powers of positive numbers": (PowerTransformer("box-cox", standardize=False), np.abs(ROWS), np.abs(BEYOND_GAPS)),
    "logarithms in place of powers": (PowerTransformer("box-cox"), np.exp(ROWS[:, :2]), np.exp(ROWS[:50, :2])),
    "the largest of a row": (Normalizer("max"), ROWS, np.vstack([BEYOND, np.zeros(3)])),
    "alike by distance": (Nystroem(gamma=0.02, n_components=15, random_state=0), ROWS, BEYOND),
    "alike by products": (Nystroem("poly", degree=2, coef0=2, n_components=5, random_state=0), ROWS, BEYOND),
    "alike by angles": (Nystroem("sigmoid", gamma=1e-3, n_components=5, random_state=0), ROWS, BEYOND),
    "alike in a line": (Nystroem("linear", n_components=3, random_state=0), ROWS, BEYOND),
    "waves": (RBFSampler(gamma=0.02, n_components=20, random_state=0), ROWS, BEYOND),
    "independent components": (FastICA(2, random_state=0, whiten="unit-variance"), ROWS, BEYOND),
    "factors": (FactorAnalysis(2, random_state=0), ROWS, BEYOND),
    "few components": (SparsePCA(2, random_state=0), ROWS, BEYOND),
    "projections by chance": (SparseRandomProjection(4, random_state=0), ROWS, BEYOND),
    "discriminants": (LinearDiscriminantAnalysis(), ROWS, BEYOND),
    "distances to centers": (KMeans(3, n_init=1, random_state=0), ROWS, BEYOND),
    "the first column": (SelectKBest(k=1), np.column_stack([10 * TARGET + ROWS[:, 0], ROWS[:, 1]]), BEYOND[:, :2]),
    "columns in turn": (SequentialFeatureSelector(Ridge(), n_features_to_select=2, cv=2), ROWS, BEYOND),
}  # fmt: skip


def asked(stand_in: Any, rows: Rows) -> Rows:
    graph = to_onnx(
        stand_in,
        initial_types=[("input", DoubleTensorType([None, rows.shape[1]]))],
        target_opset={"": 15, "ai.onnx.ml": 1},
    )
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"input": rows})[0])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", STEPS)
def test_a_stand_in_gives_what_its_step_gives(name: str) -> None:
    step, learned, rows = STEPS[name]
    step.fit(learned, TARGET[: len(learned)])
    expected = step.transform(rows.copy())
    expected = np.asarray(expected.toarray() if hasattr(expected, "toarray") else expected)
    assert is_replaced(step)
    np.testing.assert_allclose(asked(convertible(step, [True] * 3), rows), expected, rtol=1e-7, atol=1e-8)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_a_function_gives_what_numpy_gives(function: Any) -> None:
    step = FunctionTransformer(function).fit(ROWS)
    rows = np.vstack([np.clip(BEYOND, -20, 20), np.full(3, -1.5), np.full(3, 0.5), np.full(3, 1.5)])
    rows = np.where(rows < FLOORS.get(function, -np.inf), np.abs(rows), rows)
    np.testing.assert_allclose(asked(convertible(step, [True] * 3), rows), function(rows), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("step", "rows", "says"),
    [
        (SplineTransformer(extrapolation="error"), ROWS, "take 'constant'"),
        (SplineTransformer(degree=0), ROWS, "take a KBinsDiscretizer"),
        (SplineTransformer(degree=1, extrapolation="linear"), ROWS, "from the second column on"),
        (KNNImputer(), often(GAPS), "equally far from each other"),
        (KNNImputer(weights=lambda far: far), GAPS, "Python code"),
        (IterativeImputer(sample_posterior=True), GAPS, "draws values by chance"),
        (IterativeImputer(DecisionTreeRegressor(), max_iter=1), GAPS, "asks a DecisionTreeRegressor"),
        (Nystroem("laplacian", n_components=3), ROWS, "kernel='laplacian'"),
        (FunctionTransformer(np.cbrt), ROWS, "calls cbrt"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.filterwarnings("ignore")
def test_what_has_no_stand_in_is_refused_in_words(step: Any, rows: Rows, says: str) -> None:
    with pytest.raises(UnsupportedModel, match=says):
        asked(convertible(step.fit(rows), [True] * 3), rows)


def test_a_step_that_is_converted_right_stays_as_it_is() -> None:
    for step in (QuantileTransformer(n_quantiles=9), Normalizer(), SelectKBest(k=2), FunctionTransformer()):
        assert convertible(step.fit(ROWS, TARGET), [True] * 3) is step
    bins = KBinsDiscretizer(3, encode="ordinal").fit(ROWS)
    assert convertible(bins, [True] * 3) is not bins
