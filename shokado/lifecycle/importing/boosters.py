"""XGBoost: what a Booster, or one of its scikit-learn estimators, answers, and what of it its files would lose."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from runners.artefacts.card import Task
from shokado.lifecycle.errors import UnsupportedModel
from shokado.lifecycle.importing.links import Link

_LINKS = {
    "binary:hinge": Link.STEP,
    "binary:logistic": Link.SIGMOID,
    "binary:logitraw": Link.IDENTITY,
    "count:poisson": Link.EXP,
    "multi:softmax": Link.SOFTMAX,
    "multi:softprob": Link.SOFTMAX,
    "rank:map": Link.IDENTITY,
    "rank:ndcg": Link.IDENTITY,
    "rank:pairwise": Link.IDENTITY,
    "reg:absoluteerror": Link.IDENTITY,
    "reg:gamma": Link.EXP,
    "reg:linear": Link.IDENTITY,
    "reg:logistic": Link.SIGMOID,
    "reg:pseudohubererror": Link.IDENTITY,
    "reg:quantileerror": Link.IDENTITY,
    "reg:squarederror": Link.IDENTITY,
    "reg:squaredlogerror": Link.IDENTITY,
    "reg:tweedie": Link.EXP,
    "survival:aft": Link.EXP,
    "survival:cox": Link.EXP,
}
"""The link of every objective that XGBoost has."""
_LABELS_ONLY = "multi:softmax"
"""The objective whose `predict` gives the position of the likeliest class; its margins have probabilities as well."""


def is_xgboost(model: Any) -> bool:
    """Whether it is a Booster or one of XGBoost's scikit-learn estimators, which MLflow logs with either flavor."""
    return type(model).__module__.partition(".")[0] == "xgboost"


def learner_of(model: Any) -> dict[str, Any]:
    """XGBoost's own account of the model, without its trees."""
    booster = model.get_booster() if hasattr(model, "get_booster") else model
    learner: dict[str, Any] = json.loads(booster.save_config())["learner"]
    return learner


def objective_of(model: Any) -> str:
    return str(learner_of(model)["objective"]["name"])


def link_of(model: Any) -> Link:
    """Raises `UnsupportedModel` for an objective that is not known."""
    objective = objective_of(model)
    if objective not in _LINKS:
        raise UnsupportedModel(
            f"The XGBoost objective {objective} cannot be served; supported are {', '.join(sorted(_LINKS))}."
        )
    return _LINKS[objective]


def task_of(model: Any) -> Task:
    """A logistic regression's answer is a probability where the model is a classifier, and else a value."""
    match link_of(model):
        case Link.SOFTMAX:
            return Task.MULTICLASS
        case Link.STEP:
            return _of_labels(model)
        case Link.SIGMOID if objective_of(model) != "reg:logistic" or _is_classifier(model):
            return _of_labels(model)
    return Task.MULTIOUTPUT if targets_of(model) > 1 else Task.REGRESSION


def _of_labels(model: Any) -> Task:
    return Task.MULTILABEL if targets_of(model) > 1 else Task.BINARY


def targets_of(model: Any) -> int:
    """How many values, or labels, a row has."""
    return int(learner_of(model)["learner_model_param"]["num_target"])


def classes_of(model: Any) -> Any:
    """The labels that `predict` gives or would give, in the order of the probabilities; empty for a value."""
    task = task_of(model)
    if task.is_of_values:
        return ()
    if hasattr(model, "classes_") and not task.has_labels:
        return model.classes_
    count = 2 if task.has_threshold else int(learner_of(model)["learner_model_param"]["num_class"])
    return np.arange(count, dtype=np.float32)


def gives_labels(model: Any) -> bool:
    """Whether `predict` gives labels."""
    return _is_classifier(model) or objective_of(model) == _LABELS_ONLY


def scores_of(model: Any, rows: Any) -> NDArray[Any]:
    """The model's own scores of rows in the form that it takes: of one column a class or value, or [N]."""
    if _is_classifier(model):
        return np.asarray(model.predict_proba(rows))
    if objective_of(model) == _LABELS_ONLY:
        return np.asarray(softmax(model.predict(rows, output_margin=True), axis=1))
    return np.asarray(model.predict(rows))


def why_not(model: Any, parameters: Mapping[str, str]) -> str | None:
    """What of the model its files would lose, or why its scores say nothing; None if nothing."""
    missing = getattr(model, "missing", float("nan"))
    logged = parameters.get("missing", "nan").strip().lower()
    if logged not in ("nan", "none", str(missing).lower(), str(float(missing))):
        return (
            f"it was trained with missing={logged}, which MLflow's xgboost flavor does not keep: log it with "
            "mlflow.sklearn.log_model, or train it with NaN for missing values"
        )
    if categories := _categories_of(model):
        return (
            f"it takes categories by itself ({', '.join(categories)}), which has no conversion: encode them before the "
            "training, by a OneHotEncoder or an OrdinalEncoder in a pipeline of scikit-learn"
        )
    kind, objective = type(model).__name__, objective_of(model)
    if callable(own := getattr(model, "objective", None)):
        return f"it is an {kind} with an objective of its own ({own.__name__}), which its files do not keep"
    if _is_classifier(model) and task_of(model).is_of_values:
        return (
            f"it is an {kind} with the objective {objective}, whose scores are no probabilities: train it with "
            "binary:logistic, or log its get_booster(), whose answer is a value"
        )
    if task_of(model) is Task.MULTICLASS and len(classes_of(model)) < 3:
        return f"it has the objective {objective} for two classes: train it with binary:logistic"
    return None


def _categories_of(model: Any) -> list[str]:
    """The names of the columns that XGBoost takes as categories (`enable_categorical`)."""
    booster = model.get_booster() if hasattr(model, "get_booster") else model
    kinds = booster.feature_types or []
    names = booster.feature_names or [f"f{index}" for index in range(len(kinds))]
    return [name for name, kind in zip(names, kinds, strict=True) if kind == "c"]


def _is_classifier(model: Any) -> bool:
    return hasattr(model, "predict_proba")
