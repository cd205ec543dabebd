"""LightGBM's models, logged by MLflow's own calls: what is served of them is what they answer, or they are refused."""

import importlib.util
from collections.abc import Callable
from functools import partial
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import StackingRegressor, VotingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import FixedThresholdClassifier, GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from runners.artefacts.card import Task
from runners.inputs.faults import InputFault
from shokado.lifecycle.errors import CanCarryCode, MissingPackage, UnsupportedModel, VerificationFailed
from shokado.lifecycle.importing import lightgbm_trees
from shokado.lifecycle.importing.registry import Formats
from shokado.lifecycle.importing.version import ImportOrder, import_version
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
    rows_of,
    scored,
)

lightgbm: Any = pytest.importorskip("lightgbm", reason="needs LightGBM: make frameworks")

SMALL: dict[str, Any] = {"n_estimators": 8, "num_leaves": 8, "min_child_samples": 5, "n_jobs": 1, "verbose": -1}
Table = dict[str, Callable[[], Any]]


def booster(objective: Any, target: Any, frame: Any = FRAME, **parameters: Any) -> Any:
    given = {"objective": objective, "num_leaves": 8, "min_data_in_leaf": 5, "num_threads": 1, "verbose": -1}
    data = lightgbm.Dataset(frame, target, **parameters.pop("dataset", {}))
    return lightgbm.train(given | parameters, data, 8)


def regressor(objective: str) -> Any:
    return lightgbm.LGBMRegressor(objective=objective, **SMALL).fit(FRAME, VALUE)


def ranked(objective: str) -> Any:
    return lightgbm.LGBMRanker(objective=objective, **SMALL).fit(FRAME, THREE, group=[20] * 20)


def stopped() -> Any:
    """Of which the last rounds made it worse."""
    model = lightgbm.LGBMRegressor(learning_rate=0.8, **SMALL | {"n_estimators": 60})
    return model.fit(
        FRAME, VALUE, eval_X=HELD, eval_y=np.arange(60.0) % 13, callbacks=[lightgbm.early_stopping(5, verbose=False)]
    )


def squared(predictions: Any, data: Any) -> Any:
    return predictions - data.get_label(), np.ones_like(predictions)


SHARE = (VALUE / VALUE.max()).clip(0, 1)
SAMPLED: dict[str, Any] = {"boosting_type": "rf", "subsample": 0.6, "subsample_freq": 1}
OBJECTIVES = ("regression", "regression_l1", "huber", "fair", "quantile", "mape", "poisson", "gamma", "tweedie")
VALUES: Table = {
    **{objective: partial(regressor, objective) for objective in OBJECTIVES},
    **{f"{objective} booster": partial(booster, objective, VALUE) for objective in ("l2", "poisson")},
    "square roots": lambda: lightgbm.LGBMRegressor(reg_sqrt=True, **SMALL).fit(FRAME, VALUE - 9),
    "square roots of l1": lambda: booster("l1", VALUE - 9, reg_sqrt=True),
    "cross_entropy": lambda: lightgbm.LGBMRegressor(objective="cross_entropy", **SMALL).fit(FRAME, SHARE),
    "cross_entropy booster": lambda: booster("cross_entropy", SHARE),
    "cross_entropy_lambda": lambda: booster("cross_entropy_lambda", SHARE),
    "lambdarank": lambda: ranked("lambdarank"),
    "rank_xendcg": lambda: ranked("rank_xendcg"),
    "binary of a regressor": lambda: lightgbm.LGBMRegressor(objective="binary", **SMALL).fit(FRAME, TWO),
    "forest": lambda: lightgbm.LGBMRegressor(**SMALL | SAMPLED).fit(FRAME, VALUE),
    "dart": lambda: lightgbm.LGBMRegressor(boosting_type="dart", drop_rate=0.5, **SMALL).fit(FRAME, VALUE),
    "without an average": lambda: booster("l2", VALUE, boost_from_average=False),
    "zero is missing": lambda: booster("l2", VALUE, zero_as_missing=True),
    "NaN is zero": lambda: booster("l2", VALUE, use_missing=False),
    "stopped early": stopped,
    "stopped early booster": lambda: stopped().booster_,
    "an objective of one's own": lambda: booster(squared, VALUE),
    "an objective of one's own, a regressor": lambda: lightgbm.LGBMRegressor(
        objective=lambda wanted, found: (found - wanted, np.ones_like(found)), **SMALL
    ).fit(FRAME, VALUE),
    "lines in leaves": lambda: booster("l2", VALUE, linear_tree=True),
    "lines in leaves, a forest": lambda: lightgbm.LGBMRegressor(linear_tree=True, **SMALL | SAMPLED).fit(FRAME, VALUE),
    "lines in leaves, tweedie": lambda: lightgbm.LGBMRegressor(linear_tree=True, objective="tweedie", **SMALL).fit(
        FRAME, VALUE
    ),
    "lines in leaves of many trees": lambda: lightgbm.LGBMRegressor(
        linear_tree=True, linear_lambda=0.1, **SMALL | {"n_estimators": 300}
    ).fit(FRAME, VALUE),
    "many large trees": lambda: lightgbm.LGBMRegressor(
        **SMALL | {"n_estimators": 150, "num_leaves": 60, "min_child_samples": 2}
    ).fit(FRAME, VALUE + 1000),
}
CLASSES: Table = {
    "binary": lambda: lightgbm.LGBMClassifier(**SMALL).fit(FRAME, TWO),
    "binary of texts": lambda: lightgbm.LGBMClassifier(**SMALL).fit(FRAME, np.where(TWO, "yes", "no")),
    "binary booster": lambda: booster("binary", TWO),
    "sigmoid": lambda: booster("binary", TWO, sigmoid=2.5),
    "cross_entropy classifier": lambda: lightgbm.LGBMClassifier(objective="cross_entropy", **SMALL).fit(FRAME, TWO),
    "forest of two": lambda: lightgbm.LGBMClassifier(**SMALL | SAMPLED).fit(FRAME, TWO),
    "lines in leaves of two": lambda: lightgbm.LGBMClassifier(linear_tree=True, **SMALL).fit(FRAME, TWO),
    "lines in leaves of three": lambda: lightgbm.LGBMClassifier(linear_tree=True, **SMALL).fit(FRAME, THREE),
    "multiclass": lambda: lightgbm.LGBMClassifier(**SMALL).fit(FRAME, THREE),
    "multiclass booster": lambda: booster("multiclass", THREE, num_class=3),
    "multiclassova": lambda: lightgbm.LGBMClassifier(objective="multiclassova", **SMALL).fit(FRAME, THREE),
    "multiclassova booster": lambda: booster("multiclassova", THREE, num_class=3, sigmoid=0.5),
    "forest of three": lambda: lightgbm.LGBMClassifier(**SMALL | SAMPLED).fit(FRAME, THREE),
    "searched": lambda: GridSearchCV(lightgbm.LGBMClassifier(**SMALL), {"num_leaves": [4, 8]}, cv=2).fit(FRAME, TWO),
}


def own_scores(model: Any, frame: Any) -> Any:
    return model.predict_proba(frame) if hasattr(model, "predict_proba") else model.predict(frame)


def text_of(model: Any) -> lightgbm_trees.ModelText:
    inner = getattr(model, "best_estimator_", model)
    return lightgbm_trees.ModelText.of(getattr(inner, "booster_", inner).model_to_string())


def thresholds_of(model: Any) -> list[tuple[int, float]]:
    """The numbers of splits, by their columns."""
    return [
        (int(column), float(threshold))
        for tree in text_of(model).trees
        for column, threshold in zip(
            tree.get("split_feature", "").split(), tree.get("threshold", "").split(), strict=True
        )
    ]


def flavor_of(model: Any) -> tuple[str, dict[str, Any]]:
    if type(model).__module__.startswith("lightgbm"):
        is_booster = isinstance(model, lightgbm.Booster)
        return "lightgbm", {} if is_booster else {"serialization_format": "cloudpickle"}
    return "sklearn", {"serialization_format": "cloudpickle"}


@pytest.mark.parametrize("kind", [*VALUES, *CLASSES])
def test_every_objective_is_served_as_mlflow_answers_it(kind: str, registry_home: Any) -> None:
    model = (VALUES | CLASSES)[kind]()
    flavor, arguments = flavor_of(model)
    uri = logged(flavor, model, FRAME, **arguments)
    artefact = imported(uri)
    task = artefact.card.task
    assert task is Task.REGRESSION if kind in VALUES else task is not Task.REGRESSION
    assert artefact.card.source.flavor == flavor
    gaps = HELD.mask(np.arange(HELD.size).reshape(HELD.shape) % 5 == 0)
    zeros = HELD.mask(np.arange(HELD.size).reshape(HELD.shape) % 4 == 0, 0.0)
    small = HELD.mask(np.arange(HELD.size).reshape(HELD.shape) % 4 == 0, np.float32(-1e-35))
    only_known = [feature.name for feature in artefact.card.features if not feature.nullable]
    for frame in (HELD, gaps.fillna(dict.fromkeys(only_known, 1)), zeros, small):
        assert_scored_alike(artefact, frame, own_scores(model, frame))
    edges = on_thresholds(HELD, thresholds_of(model)[:300])
    assert_scored_alike(artefact, edges, own_scores(model, edges))
    theirs = np.asarray(mlflow.pyfunc.load_model(uri).predict(HELD))
    mine = answered(artefact, HELD)
    if theirs.dtype.kind == "f":
        np.testing.assert_allclose(mine, theirs, rtol=2e-6, atol=2e-6 * max(1, np.abs(theirs).max()))
    else:
        assert mine == theirs.tolist()


def test_every_objective_of_lightgbm_is_among_them() -> None:
    assert set(lightgbm_trees._LINKS) == {text_of(make()).objective for make in (VALUES | CLASSES).values()} - {
        lightgbm_trees.OWN_OBJECTIVE
    }


def test_gaps_are_taken_where_training_had_them(registry_home: Any) -> None:
    model = lightgbm.LGBMRegressor(**SMALL).fit(FRAME, VALUE)
    card = imported(logged("lightgbm", model, FRAME, serialization_format="cloudpickle")).card
    # The signature, which was made of this frame, says the same.
    assert [feature.name for feature in card.features if feature.nullable] == ["income"]
    bare = lightgbm.LGBMRegressor(**SMALL).fit(FRAME.to_numpy(), VALUE)
    artefact = imported(
        logged(
            "lightgbm", bare, FRAME,
            signature=mlflow.models.infer_signature(FRAME.to_numpy()), input_example=FRAME.to_numpy()[:5],
            serialization_format="cloudpickle",
        )
    )  # fmt: skip
    assert [feature.nullable for feature in artefact.card.features] == [False, False, False, True]
    named = HELD.set_axis(artefact.card.feature_names, axis=1)
    assert_scored_alike(artefact, named, bare.predict(HELD.to_numpy()))


# Doubles.


def decimals(seed: int, count: int) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    return pd.DataFrame({"price": random.integers(0, 700, count) / 10, "weight": random.normal(5, 1, count).round(2)})


def test_decimals_on_a_threshold_stay_on_their_side(registry_home: Any) -> None:
    """Training leaves out every other price, so that thresholds are the prices between them."""
    frame = decimals(1, 500)
    frame["price"] = (frame.price * 10 // 2) / 5
    held = pd.concat([decimals(2, 700), decimals(3, 500).assign(price=np.arange(500) / 10)])
    model = lightgbm.LGBMRegressor(**SMALL | {"n_estimators": 40, "num_leaves": 31}).fit(frame, frame.price % 3)
    artefact = imported(logged("lightgbm", model, frame, serialization_format="cloudpickle"))
    assert_scored_alike(artefact, held, model.predict(held))


@pytest.mark.parametrize("kind", [np.int64, np.float64])
def test_numbers_that_need_more_digits_are_refused_by_name(kind: Any, registry_home: Any) -> None:
    random = np.random.default_rng(8)
    seconds = random.integers(1_700_000_000, 1_700_003_600, 400)
    frame = pd.DataFrame({"at": seconds.astype(kind), "weight": random.normal(0, 1, 400).astype(np.float32)})
    model = lightgbm.LGBMRegressor(**SMALL).fit(frame, (seconds - 1_700_000_000) / 600)
    with pytest.raises(VerificationFailed, match="'at' needs more digits than rows have here"):
        imported(logged("lightgbm", model, frame, serialization_format="cloudpickle"))


def test_rows_of_float64_are_refused(registry_home: Any) -> None:
    uri = logged("lightgbm", CLASSES["binary booster"](), FRAME)
    with pytest.raises(UnsupportedModel, match="converted for rows of float32 alone"):
        import_version(ImportOrder(uri, "wide", "boosted", float64=True))


# Categories.


def passengers(seed: int, count: int = 400) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "age": random.normal(40, 10, count).round(1),
            "sex": random.choice(["male", "female"], count),
            "ticket class": random.choice([1, 2, 3], count),
            "port": random.choice(["S", "C", "Q", "Zürich ✓", "other", ""], count),
            "fare": random.exponential(30, count).round(2),
        }
    )
    frame.loc[::7, "age"] = np.nan
    frame.loc[::9, "port"] = None
    return frame


def as_categories(frame: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    return frame.astype(dict.fromkeys(names, "category"))


PASSENGERS, OTHERS = passengers(3), passengers(4, 80)
PAID = PASSENGERS.fare + 20 * (PASSENGERS.sex == "male") + PASSENGERS.port.map({"S": 30, "Q": 9}).fillna(0)
PAID = PAID - 15 * (PASSENGERS["ticket class"] == 2)
LEVELLED: dict[str, Any] = {"min_data_per_group": 5, "cat_smooth": 1, "max_cat_to_onehot": 2}


@pytest.mark.parametrize("names", [["sex", "port"], ["sex", "ticket class", "port"]], ids=["texts", "and numbers"])
@pytest.mark.parametrize("is_booster", [False, True], ids=["regressor", "booster"])
def test_categories_of_pandas_come_as_their_levels(names: list[str], is_booster: bool, registry_home: Any) -> None:
    frame = as_categories(PASSENGERS, names)
    model = lightgbm.LGBMRegressor(**SMALL, **LEVELLED).fit(frame, PAID)
    model = model.booster_ if is_booster else model
    artefact = imported(logged("lightgbm", model, frame, **flavor_of(model)[1]))
    features = {feature.name: feature for feature in artefact.card.features}
    assert features["port"].levels == ("", "C", "Q", "S", "Zürich ✓", "other")
    assert (features["port"].nullable, features["port"].other) == (True, True)
    assert features["ticket class"].type == "integer"
    levels = {name: frame[name].cat.categories for name in names}

    def own(rows: pd.DataFrame) -> Any:
        return model.predict(rows.assign(**{name: pd.Categorical(rows[name], levels[name]) for name in names}))

    unknown = OTHERS.assign(port="Lisbon")
    for rows in (OTHERS, unknown, OTHERS.assign(port=None), OTHERS.assign(**{"ticket class": 7})):
        assert_scored_alike(artefact, rows, own(rows))
    assert not np.allclose(own(OTHERS.assign(port="S")), own(unknown))


def test_ordered_categories_are_compared_by_their_order(registry_home: Any) -> None:
    sizes = ["small", "middling", "large", "huge"]
    random = np.random.default_rng(5)
    frame = pd.DataFrame({"size": random.choice(sizes, 400), "weight": random.normal(0, 1, 400)})
    target = frame["size"].map(sizes.index) + frame.weight / 9
    frame["size"] = pd.Categorical(frame["size"], sizes, ordered=True)
    frame.loc[::11, "size"] = np.nan
    model = lightgbm.LGBMRegressor(**SMALL).fit(frame, target)
    artefact = imported(logged("lightgbm", model, frame, serialization_format="cloudpickle"))
    held = pd.DataFrame({"size": [*sizes, None, "unknown"] * 5, "weight": np.linspace(-2, 2, 30)})
    known = held.assign(size=pd.Categorical(held["size"], sizes, ordered=True))
    assert_scored_alike(artefact, held, model.predict(known))


def test_whole_numbers_as_categories_are_cut(registry_home: Any) -> None:
    random = np.random.default_rng(6)
    rows = np.column_stack([random.integers(0, 40, 500), random.normal(0, 1, 500)]).astype(np.float32)
    target = np.isin(rows[:, 0], [0, 1, 2, 7, 9, 33, 39]) * 3 + rows[:, 1] / 9
    data = {"dataset": {"categorical_feature": [0]}}
    model = booster("l2", target, rows, **LEVELLED, **data)
    artefact = imported(
        logged("lightgbm", model, pd.DataFrame(), signature=mlflow.models.infer_signature(rows), input_example=rows[:9])
    )
    codes = np.array([*range(-2, 45), -0.5, -0.99, -1.01, 0.5, 1.99, 2.01, 6.99, 7.5, 8.01, 32.9, 1e6, 1e9])
    held = pd.DataFrame({"Column_0": codes, "Column_1": np.linspace(-1, 1, len(codes))}).astype(np.float32)
    named = held.set_axis(artefact.card.feature_names, axis=1)
    assert_scored_alike(artefact, named, model.predict(held.to_numpy()))


# Within scikit-learn.

MIXED = PASSENGERS.drop(columns=["ticket class"])
MIXED_TWO = (PAID.median() < PAID).astype(int).to_numpy()


def encoded(numbers_as: Any) -> ColumnTransformer:
    return ColumnTransformer(
        [("t", OneHotEncoder(handle_unknown="ignore"), ["sex", "port"]), ("n", numbers_as, ["age", "fare"])]
    )


WHOLE = FRAME.fillna(0)
CONTAINED: dict[str, tuple[Callable[[], Any], pd.DataFrame]] = {
    "scaler": (
        lambda: make_pipeline(StandardScaler(), lightgbm.LGBMClassifier(**SMALL)).fit(WHOLE, THREE),
        WHOLE,
    ),
    "doubles behind a scaler": (
        lambda: make_pipeline(StandardScaler(), lightgbm.LGBMRegressor(**SMALL)).fit(WHOLE.astype(float), VALUE),
        WHOLE.astype(float),
    ),
    "imputer": (lambda: make_pipeline(SimpleImputer(), lightgbm.LGBMClassifier(**SMALL)).fit(FRAME, TWO), FRAME),
    "columns": (
        lambda: make_pipeline(encoded("passthrough"), lightgbm.LGBMClassifier(**SMALL)).fit(MIXED, MIXED_TWO),
        MIXED,
    ),
    "search of a pipeline": (
        lambda: GridSearchCV(
            make_pipeline(encoded(SimpleImputer()), lightgbm.LGBMRegressor(**SMALL)),
            {"lgbmregressor__num_leaves": [4, 8]},
            cv=2,
        ).fit(MIXED, PAID),
        MIXED,
    ),
    "vote": (
        lambda: VotingClassifier(
            [("a", lightgbm.LGBMClassifier(**SMALL)), ("b", LogisticRegression(max_iter=5000))], voting="soft"
        ).fit(WHOLE, THREE),
        WHOLE,
    ),
    "threshold": (
        lambda: FixedThresholdClassifier(
            lightgbm.LGBMClassifier(**SMALL), threshold=0.3, response_method="predict_proba"
        ).fit(WHOLE, TWO),
        WHOLE,
    ),
    "stack": (
        lambda: StackingRegressor(
            [("a", lightgbm.LGBMRegressor(**SMALL)), ("b", LinearRegression())], LinearRegression(), cv=2
        ).fit(WHOLE, VALUE),
        WHOLE,
    ),
}


@pytest.mark.parametrize("kind", CONTAINED)
def test_models_of_scikit_learn_with_lightgbm_in_them(kind: str, registry_home: Any) -> None:
    make, frame = CONTAINED[kind]
    model = make()
    uri = logged("sklearn", model, frame, serialization_format="cloudpickle")
    artefact = imported(uri)
    held = frame.tail(60)
    assert_scored_alike(artefact, held, own_scores(model, held))
    mine = answered(artefact, held)
    if artefact.card.task is not Task.REGRESSION:
        assert mine == model.predict(held).tolist()


def test_unknown_levels_and_gaps_before_lightgbm(registry_home: Any) -> None:
    make, frame = CONTAINED["columns"]
    model = make()
    artefact = imported(logged("sklearn", model, frame, serialization_format="cloudpickle"))
    held = frame.tail(40).assign(port="Lisbon", age=np.nan)
    assert_scored_alike(artefact, held, own_scores(model, held))


# Refused.

REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "lines in leaves behind a scaler": (
        lambda: make_pipeline(SimpleImputer(), StandardScaler(), lightgbm.LGBMRegressor(linear_tree=True, **SMALL)).fit(
            FRAME, VALUE
        ),
        "leaves with lines in them .linear_tree., and stands within a model of scikit-learn",
    ),
    "two of many classes": (lambda: booster("multiclass", TWO, num_class=2), "two classes with binary"),
    "a classifier of values": (
        lambda: lightgbm.LGBMClassifier(objective="regression", **SMALL).fit(FRAME, TWO),
        "whose scores are no probabilities",
    ),
    "a classifier's own objective": (
        lambda: lightgbm.LGBMClassifier(
            objective=lambda wanted, found: (found - wanted, np.ones_like(found)), **SMALL
        ).fit(FRAME, TWO),
        "whose scores are no probabilities",
    ),
    "an early end": (
        lambda: lightgbm.LGBMClassifier(pred_early_stop=True, **SMALL).fit(FRAME, TWO),
        "ends a row's prediction early",
    ),
    "no split": (lambda: booster("binary", TWO, min_data_in_leaf=400), "trees of a single leaf only"),
    "a scaler in columns": (
        lambda: make_pipeline(encoded(StandardScaler()), lightgbm.LGBMClassifier(**SMALL)).fit(MIXED, MIXED_TWO),
        "scalers, encoders, and imputers of NaN may stand before trees",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_would_be_served_wrong_is_refused(kind: str, registry_home: Any) -> None:
    make, said = REFUSED[kind]
    model = make()
    flavor, arguments = flavor_of(model)
    uri = logged(flavor, model, MIXED if kind == "a scaler in columns" else FRAME, **arguments)
    with pytest.raises(UnsupportedModel, match=said):
        imported(uri)


def test_categories_that_nobody_can_tell_are_refused(registry_home: Any) -> None:
    frame = as_categories(PASSENGERS, ["sex", "port"])
    model = lightgbm.LGBMRegressor(**SMALL, **LEVELLED).fit(frame, PAID)
    signature = mlflow.models.infer_signature(frame.assign(port=1.0))
    uri = logged("lightgbm", model, frame, signature=signature, input_example=None, serialization_format="cloudpickle")
    with pytest.raises(UnsupportedModel, match="its signature does not tell which"):
        imported(uri)


def test_categories_within_scikit_learn_are_refused(registry_home: Any) -> None:
    frame = as_categories(PASSENGERS.fillna({"age": 0.0}), ["ticket class"])[["age", "ticket class", "fare"]]
    voters = [("a", lightgbm.LGBMClassifier(**SMALL)), ("b", lightgbm.LGBMClassifier(**SMALL, random_state=2))]
    model = VotingClassifier(voters, voting="soft").fit(frame, MIXED_TWO)
    uri = logged("sklearn", model, frame, serialization_format="cloudpickle")
    with pytest.raises(UnsupportedModel, match="categories of pandas, and stands within"):
        imported(uri)


def test_what_is_no_level_and_no_number_is_refused_at_the_door(registry_home: Any) -> None:
    model = lightgbm.LGBMRegressor(**SMALL).fit(FRAME, VALUE)
    artefact = imported(logged("lightgbm", model, FRAME, serialization_format="cloudpickle"))
    with pytest.raises(InputFault, match="takes no missing values"):
        scored(artefact, HELD.assign(visits=np.nan))
    with pytest.raises(InputFault):
        artefact.card.row_format.pack([rows_of(HELD)[0] | {"visits": "many"}])


# Files that could run code.


@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression", "binary booster"])
def test_what_is_stored_without_code_is_imported_without_it(kind: str, registry_home: Any) -> None:
    model = (VALUES | CLASSES)[kind]()
    uri = logged("lightgbm", model, FRAME)  # skops, or LightGBM's own text
    artefact = imported(uri, Formats.WITHOUT_CODE)
    assert_scored_alike(artefact, HELD, own_scores(model, HELD))


def test_a_pickle_is_refused_where_no_code_may_run(registry_home: Any) -> None:
    uri = logged("lightgbm", CLASSES["binary"](), FRAME, serialization_format="cloudpickle")
    with pytest.raises(CanCarryCode, match="it is stored as cloudpickle"):
        imported(uri, Formats.WITHOUT_CODE)


def test_where_lightgbm_lacks_the_command_is_named(registry_home: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = logged("lightgbm", CLASSES["binary booster"](), FRAME)
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "lightgbm" else found(name))
    with pytest.raises(MissingPackage, match=r"make frameworks installs all, .* pip install lightgbm") as raised:
        imported(uri)
    assert raised.value.next_command == "make frameworks"
