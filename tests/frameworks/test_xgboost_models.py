"""XGBoost: Boosters and estimators of every objective, logged with `mlflow.xgboost`."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import xgboost
from xgboost import DMatrix, XGBClassifier, XGBRanker, XGBRegressor, XGBRFClassifier, XGBRFRegressor

from runners.artefacts.card import Task
from tests.frameworks.conftest import Try
from tests.frameworks.samples import COLUMNS, FLAGS, FLOATS, GAPS, NUMBERS, Sample
from tests.frameworks.tried_model import Train, TriedModel, fitted

SMALL: dict[str, Any] = {"n_estimators": 8, "max_depth": 4, "n_jobs": 1}
DART: dict[str, Any] = {**SMALL, "booster": "dart", "rate_drop": 0.5}
LINEAR: dict[str, Any] = {"n_estimators": 8, "n_jobs": 1, "booster": "gblinear"}


def booster(learned: str, objective: str, **parameters: Any) -> Train:
    """What trains a Booster for the attribute `learned` of the rows; those of a group are ranked with each other."""

    def train(rows: Sample) -> xgboost.Booster:
        groups = rows.groups if objective.startswith("rank:") else None
        chosen = {"objective": objective, "nthread": 1, "max_depth": 4, **parameters}
        return xgboost.train(chosen, DMatrix(rows.frame, getattr(rows, learned), qid=groups), 8)

    return train


def survivors(objective: str) -> Train:
    """What trains a Booster for times of which half are only known to be later."""

    def train(rows: Sample) -> xgboost.Booster:
        matrix = DMatrix(rows.frame, np.where(rows.two, -rows.value, rows.value))
        if objective == "survival:aft":
            matrix = DMatrix(rows.frame, label_lower_bound=rows.value)
            matrix.set_float_info("label_upper_bound", np.where(rows.two, np.inf, rows.value))
        return xgboost.train({"objective": objective, "nthread": 1, "max_depth": 4}, matrix, 8)

    return train


def ranker(**parameters: Any) -> Train:
    return lambda rows: XGBRanker(**SMALL, **parameters).fit(rows.frame, rows.three, qid=rows.groups)


def categories(rows: Sample) -> XGBClassifier:
    texts = rows.frame.select_dtypes(exclude="number").columns
    frame = rows.frame.astype(dict.fromkeys(texts, "category"))
    return XGBClassifier(enable_categorical=True, **SMALL).fit(frame, rows.two)


def own_loss(truth: Any, value: Any) -> tuple[Any, Any]:
    return value - truth, np.ones_like(value)


def classifier(**parameters: Any) -> XGBClassifier:
    return XGBClassifier(**SMALL | parameters)


def regressor(**parameters: Any) -> XGBRegressor:
    return XGBRegressor(**SMALL | parameters)


model = partial(TriedModel, "xgboost")
BINARY, MULTICLASS, REGRESSION = Task.BINARY, Task.MULTICLASS, Task.REGRESSION
THREE = {"num_class": 3}
MODELS = (
    model("Booster, binary:logistic", NUMBERS, BINARY, booster("two", "binary:logistic")),
    model("Booster, binary:hinge", NUMBERS, BINARY, booster("two", "binary:hinge")),
    model("Booster, binary:logitraw", NUMBERS, REGRESSION, booster("two", "binary:logitraw")),
    model("Booster, multi:softprob", NUMBERS, MULTICLASS, booster("three", "multi:softprob", **THREE)),
    model("Booster, multi:softmax", NUMBERS, MULTICLASS, booster("three", "multi:softmax", **THREE)),
    model(
        "Booster, multi:softprob, four trees a round", NUMBERS, MULTICLASS,
        booster("three", "multi:softprob", num_parallel_tree=4, **THREE),
    ),
    model("Booster, dart", NUMBERS, BINARY, booster("two", "binary:logistic", booster="dart", rate_drop=0.5)),
    model("Booster, gblinear", NUMBERS, MULTICLASS, booster("three", "multi:softprob", booster="gblinear", **THREE)),
    model("Booster, reg:squarederror", NUMBERS, REGRESSION, booster("value", "reg:squarederror")),
    model("Booster, reg:squaredlogerror", NUMBERS, REGRESSION, booster("share", "reg:squaredlogerror")),
    model("Booster, reg:pseudohubererror", NUMBERS, REGRESSION, booster("value", "reg:pseudohubererror")),
    model("Booster, reg:logistic", NUMBERS, REGRESSION, booster("share", "reg:logistic")),
    model("Booster, reg:gamma", NUMBERS, REGRESSION, booster("value", "reg:gamma")),
    model("Booster, reg:tweedie", NUMBERS, REGRESSION, booster("value", "reg:tweedie")),
    model("Booster, count:poisson", NUMBERS, REGRESSION, booster("count", "count:poisson")),
    model("Booster, rank:pairwise", NUMBERS, REGRESSION, booster("two", "rank:pairwise")),
    model("Booster, rank:map", NUMBERS, REGRESSION, booster("two", "rank:map")),
    model("Booster, survival:aft", NUMBERS, REGRESSION, survivors("survival:aft")),
    model("Booster, survival:cox", NUMBERS, REGRESSION, survivors("survival:cox")),
    model("Booster, multi:softprob of two classes", NUMBERS, "for two classes: train it with binary:logistic",
          booster("two", "multi:softprob", num_class=2)),
    model("XGBClassifier", NUMBERS, BINARY, fitted(classifier(), "two")),
    model("XGBClassifier", FLOATS, BINARY, fitted(classifier(), "two")),
    model("XGBClassifier", FLAGS, BINARY, fitted(classifier(), "two")),
    model("XGBClassifier", GAPS, BINARY, fitted(classifier(), "two")),
    model("XGBClassifier of three", NUMBERS, MULTICLASS, fitted(classifier(), "three")),
    model("XGBClassifier of three", GAPS, MULTICLASS, fitted(classifier(), "three")),
    model("XGBClassifier, multi:softmax", NUMBERS, MULTICLASS, fitted(classifier(objective="multi:softmax"), "three")),
    model("XGBClassifier, binary:hinge", NUMBERS, BINARY, fitted(classifier(objective="binary:hinge"), "two")),
    model("XGBClassifier, reg:logistic", NUMBERS, BINARY, fitted(classifier(objective="reg:logistic"), "two")),
    model("XGBClassifier, dart of three", NUMBERS, MULTICLASS, fitted(XGBClassifier(**DART), "three")),
    model("XGBClassifier, gblinear", NUMBERS, BINARY, fitted(XGBClassifier(**LINEAR), "two")),
    model("XGBClassifier, binary:logitraw", NUMBERS, "whose scores are no probabilities",
          fitted(classifier(objective="binary:logitraw"), "two")),
    model("XGBClassifier, enable_categorical", COLUMNS, "it takes categories by itself (sex, port, deck)", categories),
    model("XGBClassifier of labels", NUMBERS, Task.MULTILABEL, fitted(classifier(), "flags")),
    model("XGBClassifier of labels", GAPS, Task.MULTILABEL, fitted(classifier(), "flags")),
    model("XGBClassifier of labels, multi_output_tree", NUMBERS, Task.MULTILABEL,
          fitted(classifier(multi_strategy="multi_output_tree"), "flags")),
    model("XGBClassifier of labels, binary:hinge", NUMBERS, Task.MULTILABEL,
          fitted(classifier(objective="binary:hinge"), "flags")),
    model("XGBClassifier of labels, gblinear", NUMBERS, Task.MULTILABEL, fitted(XGBClassifier(**LINEAR), "flags")),
    model("Booster of labels, binary:logistic", NUMBERS, Task.MULTILABEL, booster("flags", "binary:logistic")),
    model("XGBRFClassifier", NUMBERS, BINARY, fitted(XGBRFClassifier(**SMALL), "two")),
    model("XGBRFClassifier of three", NUMBERS, MULTICLASS, fitted(XGBRFClassifier(**SMALL), "three")),
    model("XGBRegressor", NUMBERS, REGRESSION, fitted(regressor(), "value")),
    model("XGBRegressor, reg:absoluteerror", NUMBERS, REGRESSION,
          fitted(regressor(objective="reg:absoluteerror"), "value")),
    model("XGBRegressor, reg:quantileerror", NUMBERS, REGRESSION,
          fitted(regressor(objective="reg:quantileerror", quantile_alpha=0.9), "value")),
    model("XGBRegressor, reg:gamma", GAPS, REGRESSION, fitted(regressor(objective="reg:gamma"), "value")),
    model("XGBRegressor, gblinear", NUMBERS, REGRESSION, fitted(XGBRegressor(**LINEAR), "value")),
    model("XGBRegressor of two quantiles", NUMBERS, Task.MULTIOUTPUT,
          fitted(regressor(objective="reg:quantileerror", quantile_alpha=[0.1, 0.9]), "value")),
    model("XGBRegressor of two values", NUMBERS, Task.MULTIOUTPUT, fitted(regressor(), "pair")),
    model("XGBRegressor, multi_output_tree", NUMBERS, Task.MULTIOUTPUT,
          fitted(regressor(multi_strategy="multi_output_tree"), "pair")),
    model("XGBRegressor, a loss of one's own", NUMBERS, REGRESSION, fitted(regressor(objective=own_loss), "value")),
    model("XGBRFRegressor", NUMBERS, REGRESSION, fitted(XGBRFRegressor(**SMALL), "value")),
    model("XGBRanker, rank:ndcg", NUMBERS, REGRESSION, ranker()),
    model("XGBRanker, rank:pairwise", GAPS, REGRESSION, ranker(objective="rank:pairwise")),
)  # fmt: skip


@pytest.mark.parametrize("tried", MODELS, ids=str)
def test_a_model_is_served_as_it_answers_or_refused(tried: TriedModel, try_out: Try) -> None:
    try_out(tried)
