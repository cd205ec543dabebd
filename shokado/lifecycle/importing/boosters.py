"""XGBoost: a Booster or one of its scikit-learn estimators goes in, and what it answers and its files come out."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, helper
from onnxmltools import convert_xgboost
from onnxmltools.convert.common import data_types as xgboost_types
from xgboost import Booster

from runners.artefacts.card import Task
from shokado.lifecycle.errors import UnsupportedModel
from shokado.lifecycle.importing.graphs import INPUT, OPSET, rename
from shokado.lifecycle.importing.label_rules import class_labels

_OBJECTIVES = {"binary:logistic": Task.BINARY, "multi:softprob": Task.MULTICLASS}


def is_xgboost(model: Any) -> bool:
    """Whether it is a Booster or one of XGBoost's scikit-learn estimators, which MLflow logs with either flavor."""
    return type(model).__module__.partition(".")[0] == "xgboost"


def task_and_classes(model: Any) -> tuple[Task, tuple[int | str, ...]]:
    learner = learner_of(model)
    objective = learner["objective"]["name"]
    if objective.startswith("reg:"):
        return Task.REGRESSION, ()
    if objective not in _OBJECTIVES:
        known = ", ".join((*_OBJECTIVES, "reg:.."))
        raise UnsupportedModel(f"The XGBoost objective {objective} cannot be served; supported are {known}.")
    task = _OBJECTIVES[objective]
    if hasattr(model, "classes_"):
        return task, class_labels(model.classes_)
    count = 2 if task is Task.BINARY else int(learner["learner_model_param"]["num_class"])
    return task, tuple(range(count))


def why_not(model: Any, parameters: Mapping[str, str]) -> str | None:
    missing = getattr(model, "missing", float("nan"))
    logged = parameters.get("missing", "nan").strip().lower()
    if logged not in ("nan", "none", str(missing).lower(), str(float(missing))):
        return (
            f"it was trained with missing={logged}, which MLflow's xgboost flavor does not keep: log it with "
            "mlflow.sklearn.log_model, or train it with NaN for missing values"
        )
    kind, objective = type(model).__name__, learner_of(model)["objective"]["name"]
    if callable(own := getattr(model, "objective", None)):
        return f"it is an {kind} with an objective of its own ({own.__name__}), which its files do not keep"
    if hasattr(model, "predict_proba") and objective not in _OBJECTIVES:
        return f"it is an {kind} with the objective {objective}, whose scores are no probabilities"
    return None


def learner_of(model: Any) -> dict[str, Any]:
    booster = model.get_booster() if hasattr(model, "get_booster") else model
    learner: dict[str, Any] = json.loads(booster.save_config())["learner"]
    return learner


def plain_booster(model: Any) -> Booster:
    """A copy without feature names, cut to the trees that the model itself predicts with."""
    booster: Booster = model
    if hasattr(model, "get_booster"):
        booster = model.get_booster()
        best = booster.attr("best_iteration")
        booster = booster[: int(best) + 1] if best is not None else booster
    booster = booster.copy()
    if "c" in (booster.feature_types or ()):
        raise UnsupportedModel("XGBoost's own categorical features cannot be served: encode them as numbers.")
    booster.feature_names = None
    booster.feature_types = None
    booster.set_attr(best_iteration=None, best_score=None)
    return booster


def onnx_of(booster: Booster, columns: int) -> ModelProto:
    inputs = [(INPUT, xgboost_types.FloatTensorType([None, columns]))]
    graph: ModelProto = convert_xgboost(booster, initial_types=inputs, target_opset=OPSET)
    return graph


def take_for_missing(graph: ModelProto, sentinel: float) -> None:
    """Put NaN in place of the number that means a missing value, in front of all else."""
    body = graph.graph
    rename(body, INPUT, "present")
    for name, value in (("sentinel", sentinel), ("missing", np.nan)):
        body.initializer.append(onnx.numpy_helper.from_array(np.array(value, dtype=np.float32), name))
    body.node.insert(0, helper.make_node("Where", ["is_missing", "missing", INPUT], ["present"]))
    body.node.insert(0, helper.make_node("Equal", [INPUT, "sentinel"], ["is_missing"]))
