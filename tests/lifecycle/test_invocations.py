"""What `/invocations` answers is what MLflow's own scoring server answers about the model that was imported."""

from collections.abc import Callable
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import xgboost
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from shokado.lifecycle.importing.version import Imported, ImportOrder, import_version
from tests.support.invocations import ours, theirs

RANDOM = np.random.default_rng(5)
FRAME = pd.DataFrame(RANDOM.integers(0, 9, (300, 2)).astype(float), columns=["a", "b"])
VALUE = FRAME["a"] - FRAME["b"] + RANDOM.normal(size=300)
TWO = (VALUE > 0).to_numpy()
THREE = np.digitize(VALUE, [-2, 2])
MODELS: dict[str, Callable[[], Any]] = {
    "whole numbers": lambda: DecisionTreeClassifier(max_depth=4).fit(FRAME, TWO.astype(int) * 7),
    "numbers that are whole": lambda: DecisionTreeClassifier(max_depth=4).fit(FRAME, THREE.astype(float)),
    "truth values": lambda: LogisticRegression().fit(FRAME, TWO),
    "texts": lambda: DecisionTreeClassifier(max_depth=4).fit(FRAME, np.array(["low", "mid", "top"])[THREE]),
    "values": lambda: DecisionTreeRegressor(max_depth=4).fit(FRAME, VALUE),
    "booster": lambda: xgboost.train({"objective": "binary:logistic"}, xgboost.DMatrix(FRAME, TWO), 5),
    "booster of three": lambda: xgboost.train(
        {"objective": "multi:softprob", "num_class": 3}, xgboost.DMatrix(FRAME, THREE), 5
    ),
    "booster that gives labels": lambda: xgboost.train(
        {"objective": "multi:softmax", "num_class": 3}, xgboost.DMatrix(FRAME, THREE), 5
    ),
    "XGBClassifier": lambda: xgboost.XGBClassifier(n_estimators=5, n_jobs=1).fit(FRAME, THREE),
    "XGBRegressor": lambda: xgboost.XGBRegressor(n_estimators=5, n_jobs=1).fit(FRAME, VALUE),
}


def assert_same(mine: Any, expected: Any) -> None:
    """Numbers near, all else the same, types included."""
    assert mine.keys() == expected.keys() == {"predictions"}
    given, wanted = mine["predictions"], expected["predictions"]
    assert [type(one) for one in given] == [type(one) for one in wanted]
    if isinstance(wanted[0], (float, list)):
        np.testing.assert_allclose(given, wanted, rtol=1e-4, atol=1e-5)
    else:
        assert given == wanted


def body_of(frame: pd.DataFrame, **fields: Any) -> Any:
    return {"dataframe_split": frame.to_dict(orient="split")} | fields


def logged(log_model: Callable[..., str], model: Any, **arguments: Any) -> str:
    flavor = "xgboost" if type(model).__module__.startswith("xgboost") else "sklearn"
    if flavor == "sklearn":
        arguments["serialization_format"] = "cloudpickle"
    return log_model(
        flavor, model, signature=mlflow.models.infer_signature(FRAME), input_example=FRAME[:1], **arguments
    )


@pytest.mark.parametrize("kind", MODELS)
def test_every_kind_of_model_answers_as_with_mlflow(
    kind: str, log_model: Callable[..., str], own_store: object
) -> None:
    uri = logged(log_model, MODELS[kind]())
    artefact = import_version(ImportOrder(uri, "v1", model="stranger")).artefact
    assert_same(ours(artefact, body_of(FRAME)), theirs(uri, body_of(FRAME)))


@pytest.mark.parametrize("kind", ["whole numbers", "texts", "XGBClassifier"])
def test_probabilities_are_those_of_predict_proba(kind: str, log_model: Callable[..., str], own_store: object) -> None:
    model = MODELS[kind]()
    artefact = import_version(ImportOrder(logged(log_model, model), "v1", model="stranger")).artefact
    mine = ours(artefact, body_of(FRAME, params={"predict_method": "predict_proba"}))
    np.testing.assert_allclose(mine["predictions"], model.predict_proba(FRAME), atol=1e-5)


def test_a_model_logged_to_give_probabilities_gives_them(log_model: Callable[..., str], own_store: object) -> None:
    uri = logged(log_model, MODELS["truth values"](), pyfunc_predict_fn="predict_proba")
    artefact = import_version(ImportOrder(uri, "v1", model="stranger")).artefact
    assert_same(ours(artefact, body_of(FRAME)), theirs(uri, body_of(FRAME)))


@pytest.mark.parametrize("tag", ["customers:v1", "customers:v2", "iris:v1", "iris:v2", "diabetes:v1", "diabetes:v2"])
def test_the_models_of_the_data_sets_answer_as_with_mlflow(tag: str, prepared: dict[str, Imported]) -> None:
    artefact = prepared[tag].artefact
    card = artefact.card
    frame = pd.DataFrame(card.examples.rows, columns=list(card.feature_names))
    assert_same(ours(artefact, body_of(frame)), theirs(card.source.uri, body_of(frame)))
