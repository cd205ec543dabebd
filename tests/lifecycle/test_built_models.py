"""What is built for a model of scikit-learn is asked in ONNX Runtime, and gives its scores, to float64's digits."""

from typing import Any

import numpy as np
import pytest
from sklearn.covariance import EllipticEnvelope
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.isotonic import IsotonicRegression
from sklearn.kernel_ridge import KernelRidge
from sklearn.neighbors import (
    KNeighborsClassifier,
    KNeighborsRegressor,
    NearestCentroid,
    RadiusNeighborsClassifier,
)
from sklearn.neural_network import MLPRegressor

from shokado.lifecycle.errors import UnsupportedModel
from shokado.lifecycle.importing import decisions
from shokado.lifecycle.importing.built_models import built, is_built
from tests.lifecycle.test_stand_ins import BEYOND, ROWS, TARGET, Rows, asked

THREE = np.digitize(ROWS[:, 0], (2.6, 3.4))
VALUE = ROWS[:, 0] ** 2 + ROWS[:, 1]
MODELS: dict[str, tuple[Any, Any]] = {
    "discriminants of two": (LinearDiscriminantAnalysis(), TARGET),
    "discriminants of three": (LinearDiscriminantAnalysis(), THREE),
    "shrunken discriminants": (LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.3), TARGET),
    "kernel": (KernelRidge(kernel="rbf", gamma=0.01), VALUE),
    "kernel of two values": (KernelRidge(kernel="poly", degree=2), np.column_stack([VALUE, -VALUE])),
    "linear kernel": (KernelRidge(), VALUE),
    "neighbours of two, by distance": (KNeighborsClassifier(weights="distance"), TARGET),
    "neighbours of three, by distance": (KNeighborsClassifier(3, weights="distance"), THREE),
    "values of neighbours, by distance": (KNeighborsRegressor(weights="distance"), VALUE),
    "two values of neighbours": (KNeighborsRegressor(weights="distance"), np.column_stack([VALUE, -VALUE])),
    "a network of counts": (
        MLPRegressor(loss="poisson", hidden_layer_sizes=(6, 4), activation="tanh", max_iter=5, random_state=0),
        np.abs(VALUE),
    ),
    "the mean": (DummyRegressor(), VALUE),
    "the shares": (DummyClassifier(), THREE),
    "the most frequent one": (DummyClassifier(strategy="most_frequent"), TARGET),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", MODELS)
def test_what_is_built_scores_as_its_model_does(name: str) -> None:
    model, target = MODELS[name]
    model.fit(ROWS, target)
    assert is_built(model)
    rows = np.vstack([BEYOND, ROWS])
    expected = model.predict_proba(rows) if hasattr(model, "predict_proba") else model.predict(rows)
    expected = np.asarray(expected).reshape(len(rows), -1)
    # Squares of distances lose half of the digits, which rows at no distance show.
    tolerance = 1e-5 if "distance" in name or "two values of" in name else 1e-9
    np.testing.assert_allclose(asked(built(model), rows), expected, rtol=tolerance, atol=tolerance)
    if hasattr(model, "decision_function"):
        decision = np.asarray(model.decision_function(rows)).reshape(len(rows), -1)
        np.testing.assert_allclose(asked(built(model, is_decision=True), rows), decision, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("bounds", ["clip", "nan"])
def test_a_monotone_line_ends_where_its_training_did(bounds: str) -> None:
    model = IsotonicRegression(out_of_bounds=bounds).fit(ROWS[:, 0], VALUE)
    rows: Rows = BEYOND[:, :1]
    answers = asked(built(model), rows)
    np.testing.assert_allclose(answers[:, 0], model.predict(rows), rtol=1e-9, atol=1e-9)
    assert np.isnan(answers).any() == (bounds == "nan")


def test_an_ellipse_has_the_decision_function_of_its_model() -> None:
    model = EllipticEnvelope(random_state=0).fit(ROWS)
    np.testing.assert_allclose(
        asked(decisions.as_values(model), BEYOND)[:, 0], model.decision_function(BEYOND), rtol=1e-9
    )


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (IsotonicRegression(out_of_bounds="raise"), "take 'clip'"),
        (GaussianProcessClassifier(), "take an SVC within a CalibratedClassifierCV"),
        (NearestCentroid(), "whose labels follow from its probabilities"),
        (RadiusNeighborsClassifier(50), "take a KNeighborsClassifier"),
        (DummyClassifier(strategy="stratified"), "take strategy='prior'"),
        (KernelRidge(kernel="laplacian"), "kernel='laplacian'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_not_built_is_refused_in_words(model: Any, says: str) -> None:
    rows = ROWS[:, :1] if isinstance(model, IsotonicRegression) else ROWS
    with pytest.raises(UnsupportedModel, match=says):
        asked(built(model.fit(rows, TARGET)), rows)
