"""CatBoost's models, logged by MLflow's own calls: what is served of them is what they answer, or they are refused."""

import importlib.util
from collections.abc import Callable
from functools import partial
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import VotingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from runners.artefacts.card import Task
from runners.inputs.faults import InputFault
from shokado.lifecycle.errors import MissingPackage, UnsupportedModel
from shokado.lifecycle.importing.catboost_models import CatBoostModel
from shokado.lifecycle.importing.catboost_trees import NUMBER, splits_of
from shokado.lifecycle.importing.registry import Formats
from tests.frameworks.boosted import (
    FRAME,
    HELD,
    THREE,
    TWO,
    VALUE,
    answered,
    assert_scored_alike,
    imported,
    logged,
    on_thresholds,
    scored,
)

catboost: Any = pytest.importorskip("catboost", reason="needs CatBoost: make frameworks")

SMALL: dict[str, Any] = {
    "iterations": 8,
    "depth": 4,
    "thread_count": 1,
    "verbose": False,
    "allow_writing_files": False,
    "random_seed": 1,
}
Table = dict[str, Callable[[], Any]]


def regressor(loss: str, target: Any = VALUE, frame: Any = FRAME, **parameters: Any) -> Any:
    return catboost.CatBoostRegressor(loss_function=loss, **SMALL | parameters).fit(frame, target)


def classifier(target: Any, frame: Any = FRAME, **parameters: Any) -> Any:
    return catboost.CatBoostClassifier(**SMALL | parameters).fit(frame, target)


def base(loss: str, target: Any) -> Any:
    return catboost.CatBoost(SMALL | {"loss_function": loss}).fit(FRAME, target)


def ranked() -> Any:
    return catboost.CatBoostRanker(loss_function="YetiRank", **SMALL).fit(FRAME, THREE, group_id=np.arange(400) // 20)


def with_threshold(target: Any, **parameters: Any) -> Any:
    model = classifier(target, **parameters)
    model.set_probability_threshold(0.3)
    return model


LOSSES = (
    "RMSE", "MAE", "MAPE", "Quantile:alpha=0.9", "Poisson", "Tweedie:variance_power=1.5", "Huber:delta=2",
    "LogLinQuantile:alpha=0.5", "Expectile:alpha=0.7",
)  # fmt: skip
VALUES: Table = {
    **{loss: partial(regressor, loss) for loss in LOSSES},
    "gaps are the largest": lambda: regressor("RMSE", nan_mode="Max"),
    "trees of any shape": lambda: regressor("RMSE", grow_policy="Lossguide", max_leaves=12),
    "trees by level": lambda: regressor("RMSE", grow_policy="Depthwise"),
    "without an average": lambda: regressor("RMSE", boost_from_average=False),
    "rank": ranked,
    "margin of a class": lambda: base("Logloss", TWO),
    "value of a base model": lambda: base("RMSE", VALUE),
    "many deep trees": lambda: regressor("RMSE", VALUE + 1000, iterations=100, depth=6),
}
CLASSES: Table = {
    "Logloss": lambda: classifier(TWO),
    "Logloss of texts": lambda: classifier(np.where(TWO, "yes", "no")),
    "Logloss of truths": lambda: classifier(TWO.astype(bool)),
    "CrossEntropy": lambda: classifier(TWO, loss_function="CrossEntropy"),
    "a threshold": lambda: with_threshold(TWO),
    "MultiClass": lambda: classifier(THREE),
    "MultiClass of texts": lambda: classifier(np.array(["low", "middle", "high"])[THREE]),
    "MultiClass of any shape": lambda: classifier(THREE, grow_policy="Lossguide", max_leaves=12),
    "MultiClassOneVsAll": lambda: classifier(THREE, loss_function="MultiClassOneVsAll"),
}


SEVERAL: Table = {
    "MultiRMSE": lambda: regressor("MultiRMSE", np.column_stack([VALUE, 1e4 - 1e3 * VALUE, VALUE**2])),
    "MultiRMSE of any shape": lambda: regressor(
        "MultiRMSE", np.column_stack([VALUE, -VALUE]), grow_policy="Lossguide", max_leaves=12
    ),
    "MultiQuantile": lambda: regressor("MultiQuantile:alpha=0.1,0.5,0.9"),
    "RMSEWithUncertainty": lambda: regressor("RMSEWithUncertainty"),
    "margins of classes": lambda: base("MultiClass", THREE),
}
BOTH = np.column_stack([TWO, THREE > 0]).astype(int)
SEVERAL_LABELS: Table = {
    "MultiLogloss": lambda: classifier(BOTH, loss_function="MultiLogloss"),
    "MultiCrossEntropy": lambda: classifier(BOTH, loss_function="MultiCrossEntropy"),
    "labels with a threshold": lambda: with_threshold(BOTH, loss_function="MultiLogloss"),
}
EVERY_LOSS = VALUES | CLASSES | SEVERAL | SEVERAL_LABELS
TASKS = [
    (VALUES, {Task.REGRESSION}), (CLASSES, {Task.BINARY, Task.MULTICLASS}), (SEVERAL, {Task.MULTIOUTPUT}),
    (SEVERAL_LABELS, {Task.MULTILABEL}),
]  # fmt: skip


def own_scores(model: Any, frame: Any) -> Any:
    return model.predict_proba(frame) if hasattr(model, "predict_proba") else model.predict(frame)


def borders_of(model: Any) -> list[tuple[int, float]]:
    """The numbers of splits, by their columns."""
    splits = splits_of(CatBoostModel(model).content)
    return [(split["float_feature_index"], split["border"]) for split in splits if split["split_type"] == NUMBER]


@pytest.mark.parametrize("kind", EVERY_LOSS)
def test_every_loss_is_served_as_mlflow_answers_it(kind: str, registry_home: Any) -> None:
    model = EVERY_LOSS[kind]()
    uri = logged("catboost", model, FRAME)
    artefact = imported(uri, Formats.WITHOUT_CODE)
    card = artefact.card
    assert card.task in next(tasks for table, tasks in TASKS if kind in table)
    assert card.source.flavor == "catboost"
    assert [feature.name for feature in card.features if feature.nullable] == ["income"]
    gaps = HELD.assign(income=HELD.income.where(np.arange(60) % 2 == 0))
    for frame in (HELD, gaps):
        assert_scored_alike(artefact, frame, own_scores(model, frame))
    edges = on_thresholds(HELD, borders_of(model)[:300])
    assert_scored_alike(artefact, edges, own_scores(model, edges))
    theirs = np.asarray(mlflow.pyfunc.load_model(uri).predict(HELD))
    mine = answered(artefact, HELD)
    if theirs.dtype.kind == "f":
        np.testing.assert_allclose(mine, theirs, rtol=2e-6, atol=2e-6 * max(1, np.abs(theirs).max()))
    else:
        assert mine == theirs.tolist()


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("MultiQuantile", ("quantile_0.1", "quantile_0.5", "quantile_0.9")),
        ("RMSEWithUncertainty", ("mean", "variance")),
        ("MultiLogloss", ("output_0", "output_1")),
    ],
)
def test_several_values_and_labels_have_names(kind: str, names: tuple[str, ...], registry_home: Any) -> None:
    assert imported(logged("catboost", EVERY_LOSS[kind](), FRAME)).card.outputs == names


def test_doubles_are_rounded_as_catboost_rounds_them(registry_home: Any) -> None:
    frame, held = FRAME.astype(float) + 0.1, HELD.astype(float) + 0.1
    model = regressor("RMSE", frame=frame, iterations=40)
    artefact = imported(logged("catboost", model, frame))
    edges = on_thresholds(held, borders_of(model), doubles=True)
    for rows in (held, edges):
        assert_scored_alike(artefact, rows, model.predict(rows))


def test_arrays_have_columns_without_names(registry_home: Any) -> None:
    rows = FRAME.to_numpy()
    model = regressor("RMSE", frame=rows)
    artefact = imported(
        logged("catboost", model, FRAME, signature=mlflow.models.infer_signature(rows), input_example=rows[:5])
    )
    assert artefact.card.feature_names == ("f0", "f1", "f2", "f3")
    named = HELD.set_axis(artefact.card.feature_names, axis=1)
    assert_scored_alike(artefact, named, model.predict(HELD.to_numpy()))


# Categories.


def passengers(seed: int, count: int = 400) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "age": random.normal(40, 10, count).round(1),
            "sex": random.choice(["male", "female"], count),
            "class": random.choice([1, 2, 3], count),
            "port": random.choice(["S", "C", "Q", "Zürich ✓", "other", ""], count),
        }
    )


PASSENGERS, OTHERS = passengers(3), passengers(4, 80)
PAID = PASSENGERS.age + 20 * (PASSENGERS.sex == "male") + PASSENGERS.port.map({"S": 30, "Q": 9}).fillna(0)
PAID = PAID - 15 * (PASSENGERS["class"] == 2)
ONE_HOT: dict[str, Any] = {"cat_features": ["sex", "class", "port"], "one_hot_max_size": 20, "iterations": 30}


def test_one_hot_categories_come_as_their_levels(registry_home: Any) -> None:
    model = regressor("RMSE", PAID, PASSENGERS, **ONE_HOT)
    artefact = imported(logged("catboost", model, PASSENGERS))
    features = {feature.name: feature for feature in artefact.card.features}
    assert features["port"].levels == ("", "C", "Q", "S", "Zürich ✓", "other")
    assert (features["port"].nullable, features["port"].other) == (False, True)
    unknown = OTHERS.assign(port="Lisbon")
    for rows in (OTHERS, unknown, OTHERS.assign(**{"class": 7})):
        assert_scored_alike(artefact, rows, model.predict(rows))
    assert not np.allclose(model.predict(OTHERS.assign(port="S")), model.predict(unknown))
    with pytest.raises(InputFault, match="where one of its levels belongs"):
        scored(artefact, OTHERS.assign(port=None))


def test_levels_that_the_example_lacks_are_refused(registry_home: Any) -> None:
    model = regressor("RMSE", PAID, PASSENGERS, **ONE_HOT)
    example = PASSENGERS[PASSENGERS.port.isin(["C", "Q"])].head(9)
    with pytest.raises(UnsupportedModel, match=r"of port that it asks for, .* are in no row of its input example"):
        imported(logged("catboost", model, PASSENGERS, input_example=example))
    signature = mlflow.models.infer_signature(PASSENGERS)
    with pytest.raises(UnsupportedModel, match="Log it with an input example"):
        imported(logged("catboost", model, PASSENGERS, signature=signature, input_example=None))


KINDS = ("Borders", "Buckets", "BinarizedTargetMeanValue", "Counter")
COUNTED: dict[str, Any] = {
    "cat_features": ["sex", "class", "port"], "one_hot_max_size": 1, "max_ctr_complexity": 1, "iterations": 30,
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_categories_that_were_counted_come_as_their_levels(kind: str, registry_home: Any) -> None:
    model = regressor("RMSE", PAID, PASSENGERS, simple_ctr=[kind, "Borders"], **COUNTED)
    artefact = imported(logged("catboost", model, PASSENGERS))
    unknown = OTHERS.assign(port="Lisbon")
    for rows in (OTHERS, unknown, OTHERS.assign(**{"class": 7}), OTHERS.assign(age=np.nan).fillna({"age": 0})):
        assert_scored_alike(artefact, rows, model.predict(rows))
    assert not np.allclose(model.predict(OTHERS.assign(port="S")), model.predict(unknown))


@pytest.mark.parametrize("policy", ["SymmetricTree", "Lossguide"])
def test_counts_of_several_targets_tell_classes_apart(policy: str, registry_home: Any) -> None:
    three = np.digitize(PAID, np.quantile(PAID, (1 / 3, 2 / 3)))
    model = classifier(three, PASSENGERS, grow_policy=policy, **COUNTED)
    artefact = imported(logged("catboost", model, PASSENGERS))
    for rows in (OTHERS, OTHERS.assign(port="Lisbon")):
        assert_scored_alike(artefact, rows, model.predict_proba(rows))


def test_counted_levels_that_the_example_lacks_are_refused(registry_home: Any) -> None:
    model = regressor("RMSE", PAID, PASSENGERS, **COUNTED)
    example = PASSENGERS[PASSENGERS.port.isin(["C", "Q"])].head(9)
    with pytest.raises(UnsupportedModel, match=r"of port that it asks for, 4 are in no row of its input example"):
        imported(logged("catboost", model, PASSENGERS, input_example=example))


# Within scikit-learn.

MIXED = passengers(5)[["age", "sex", "port"]]
MIXED.loc[::7, "age"] = np.nan
ENCODED = ColumnTransformer(
    [("t", OneHotEncoder(handle_unknown="ignore"), ["sex", "port"]), ("n", SimpleImputer(), ["age"])]
)
WHOLE = FRAME.fillna(0)
CONTAINED: dict[str, tuple[Callable[[], Any], pd.DataFrame]] = {
    "scaler": (lambda: make_pipeline(StandardScaler(), catboost.CatBoostRegressor(**SMALL)).fit(WHOLE, VALUE), WHOLE),
    "scaler of classes": (
        lambda: make_pipeline(StandardScaler(), catboost.CatBoostClassifier(**SMALL)).fit(WHOLE, THREE),
        WHOLE,
    ),
    "columns": (lambda: make_pipeline(ENCODED, catboost.CatBoostClassifier(**SMALL)).fit(MIXED, TWO), MIXED),
    "vote": (
        lambda: VotingClassifier(
            [("a", catboost.CatBoostClassifier(**SMALL)), ("b", LogisticRegression(max_iter=5000))], voting="soft"
        ).fit(WHOLE, TWO),
        WHOLE,
    ),
}


@pytest.mark.parametrize("kind", CONTAINED)
def test_models_of_scikit_learn_with_catboost_in_them(kind: str, registry_home: Any) -> None:
    make, frame = CONTAINED[kind]
    model = make()
    artefact = imported(logged("sklearn", model, frame, serialization_format="cloudpickle"))
    held = frame.tail(60)
    assert_scored_alike(artefact, held, own_scores(model, held))
    if artefact.card.task is not Task.REGRESSION:
        assert answered(artefact, held) == model.predict(held).tolist()


# Refused.

REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "categories counted together": (
        lambda: regressor("RMSE", PAID, PASSENGERS, **COUNTED | {"max_ctr_complexity": 3}),
        "train it with max_ctr_complexity=1",
    ),
    "a free text": (
        lambda: classifier(
            PASSENGERS["class"] > 1,
            PASSENGERS.assign(port="in class " + PASSENGERS["class"].astype(str)),
            cat_features=["sex"],
            text_features=["port"],
        ),
        "it takes texts or embeddings, .* encode them at the beginning of a pipeline",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_would_be_served_wrong_is_refused(kind: str, registry_home: Any) -> None:
    make, said = REFUSED[kind]
    uri = logged("catboost", make(), PASSENGERS)
    with pytest.raises(UnsupportedModel, match=said):
        imported(uri)


def test_where_catboost_lacks_the_command_is_named(registry_home: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = logged("catboost", regressor("RMSE"), FRAME)
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "catboost" else found(name))
    with pytest.raises(MissingPackage, match=r"make frameworks installs all, .* pip install catboost") as raised:
        imported(uri)
    assert raised.value.next_command == "make frameworks"
