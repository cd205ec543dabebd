"""Labels: which class a framework's own `predict` gives a row, and the rule by which a server does the same.

A fitted model goes in; the smallest probability that means the second class comes out, whether `predict` gives labels
at all, and the labels themselves for verification.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import SGDClassifier
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier
from sklearn.pipeline import Pipeline
from sklearn.svm import SVC, NuSVC

from runners.artefacts.card import ABOVE_HALF, Task
from runners.artefacts.scores import from_columns, positions_of
from shokado.lifecycle.errors import UnsupportedModel
from shokado.lifecycle.importing import boosters, decisions, multilabel
from shokado.lifecycle.importing.leaves import WITH_THRESHOLD, chain_of
from shokado.lifecycle.importing.own_models import own_model
from shokado.lifecycle.importing.probing_rows import parts_of
from shokado.lifecycle.importing.statsmodels_results import FittedLine

_ABOVE_ONE = 1 + 2.0**-23
"""The smallest float32 above 1: no row is of the second class."""


def positive_from(model: Any) -> float:
    """The smallest float32 probability from which a binary model's `predict` gives the second class.

    scikit-learn's and XGBoost's classifiers give a tie to the first class (`argmax`, or a decision above 0), but for
    gradient boosting, which asks for a decision of at least 0. Raises `UnsupportedModel` for a threshold on something
    else than the probability.
    """
    for name in ("best_estimator_", "final_estimator_"):
        if hasattr(model, name):
            return positive_from(getattr(model, name))
    if (chain := chain_of(model)) is not None:
        return positive_from(chain.model)
    if isinstance(model, WITH_THRESHOLD):
        return _from_threshold(model)
    if isinstance(model, MultiOutputClassifier | ClassifierChain):
        return _from_each(model)
    if (own := own_model(model)) is not None:
        return own.positive_from
    return 0.5 if isinstance(model, GradientBoostingClassifier) else ABOVE_HALF


def instead_of(model: Any) -> str:
    """The end of a sentence: why labels are known not to follow from a model's scores, and what to take; else empty."""
    for part in parts_of(model):
        kind = type(part).__name__
        if isinstance(part, SVC | NuSVC) and part.probability is True:
            several = len(part.classes_) > 2
            advice = f"OneVsRestClassifier({kind}())" if several else f"{kind}(), or CalibratedClassifierCV({kind}())"
            return f", as the probabilities of {kind}(probability=True) are fitted apart from them: take {advice}"
        if isinstance(part, SGDClassifier) and part.loss == "modified_huber":
            return ", as modified_huber gives several classes the same probability: take loss='log_loss'"
    return ""


def _from_each(model: Any) -> float:
    found = {positive_from(member) for member in model.estimators_}
    if len(found) > 1:
        raise UnsupportedModel(
            f"The labels of its {type(model).__name__} have thresholds of their own ({', '.join(map(str, found))}): "
            "give all the same one, or log a model for each label."
        )
    return found.pop()


def _from_threshold(model: Any) -> float:
    inner = without_threshold(model)
    if model.response_method == "decision_function" or not hasattr(inner, "predict_proba"):
        raise UnsupportedModel(
            f"{type(model).__name__} has its threshold on the decision function, where answers are probabilities: "
            "give it response_method='predict_proba'."
        )
    given = model.best_threshold_ if hasattr(model, "best_threshold_") else model.threshold
    threshold = 0.5 if given == "auto" else float(given)
    # A tuned threshold knows its class by its scorer alone.
    scorer = getattr(model, "_curve_scorer", None)
    positive = model.pos_label if scorer is None else scorer._get_pos_label()
    of_the_first = positive is not None and positive == inner.classes_[0]
    return _least_float32(1 - threshold, above=True) if of_the_first else _least_float32(threshold)


def _least_float32(bound: float, *, above: bool = False) -> float:
    """The smallest float32 that is at least `bound`, or above it, as far as probabilities go."""
    near = np.float32(bound)
    if float(near) < bound or (above and float(near) == bound):
        near = np.nextafter(near, np.float32(np.inf))
    return min(max(float(near), 0.0), _ABOVE_ONE)


def without_threshold(model: Any) -> Any:
    """The model, or the one that it puts a threshold of its own on: the probabilities are the same."""
    if isinstance(model, WITH_THRESHOLD):
        return getattr(model, "estimator_", model.estimator)
    if isinstance(model, Pipeline) and isinstance(model[-1], WITH_THRESHOLD):
        return Pipeline([*model.steps[:-1], (model.steps[-1][0], without_threshold(model[-1]))])
    return model


def predicts(model: Any) -> Literal["labels", "label_lists", "scores"]:
    """What `predict` gives; a classifier without `predict_proba` gives probabilities there, as most Boosters do."""
    last = model[-1] if isinstance(model, Pipeline) else model
    if (own := own_model(last)) is not None and own.gives_label_lists:
        return "label_lists"
    if boosters.is_xgboost(model):
        return "labels" if boosters.gives_labels(model) else "scores"
    if isinstance(model, FittedLine):
        return "scores"
    gives_labels = hasattr(model, "predict_proba") or decisions.task_of(model) is not None
    return "labels" if gives_labels else "scores"


def chosen(task: Task, scores: NDArray[Any], threshold: float) -> NDArray[np.int64]:
    """The position of each row's class by the rule of a server, [N], or of each of its labels', [N, labels].

    Scores [N, classes], [N, labels] or [N, 1] are taken as float32.
    """
    if task.has_labels:
        return positions_of(task, scores.astype(np.float32), threshold)
    if scores.shape[1] == 1:
        return positions_of(Task.BINARY_MARGIN, scores[:, 0].astype(np.float32), threshold)
    task = Task.BINARY if scores.shape[1] == 2 else Task.MULTICLASS
    return positions_of(task, from_columns(task, scores.astype(np.float32)), threshold)


def own_labels(task: Task, model: Any, rows: Any, scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """The position of each row's class by the framework's own word; where that has none, by its scores.

    Of several labels that of each: [N, labels].
    """
    if predicts(model) == "scores":
        return chosen(task, scores, ABOVE_HALF)
    if task.has_labels:
        return _positions_of_labels(model, rows)
    classes = getattr(model, "classes_", range(scores.shape[1]))
    if not boosters.is_xgboost(model) and decisions.task_of(model) is not None:
        classes = decisions.classes_of(model)
    positions = {label: position for position, label in enumerate(np.asarray(classes).tolist())}
    return np.array([positions[label] for label in np.asarray(model.predict(rows)).ravel().tolist()], dtype=np.int64)


def _positions_of_labels(model: Any, rows: Any) -> NDArray[np.int64]:
    labels = model.predict(rows)
    labels = np.asarray(labels.toarray() if hasattr(labels, "toarray") else labels)
    _, second = classes_of_labels(model)
    return np.asarray(labels == second, dtype=np.int64)


def classes_of_labels(model: Any) -> Sequence[Any]:
    """What each of several labels is one of, as the model has it."""
    is_scikit = not boosters.is_xgboost(model) and own_model(model) is None
    return multilabel.classes_of(model) if is_scikit else (0, 1)


def class_labels(labels: Any) -> tuple[int | str, ...]:
    """Labels as they travel in JSON: whole numbers and booleans as int, anything else as text."""
    plain = [label.item() if hasattr(label, "item") else label for label in labels]
    return tuple(
        int(label) if isinstance(label, (bool, int, float)) and float(label).is_integer() else str(label)
        for label in plain
    )
