"""Several labels a row: what a classifier of them decides between, and by which scores.

    trees, forests, neighbours, MultiOutputClassifier    `predict_proba` gives a list, of [N, classes] for each label
    networks, chains, OneVsRestClassifier, XGBoost       it gives that of the second class of each, [N, labels]
    without `predict_proba`                              `decision_function` gives [N, labels]

A fitted classifier of scikit-learn goes in; the classes that all its labels have in common, and its scores come out.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.multioutput import ClassifierChain
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import Pipeline

from runners.artefacts.card import Task
from shokado.lifecycle.errors import UnsupportedModel
from shokado.lifecycle.importing import boosters
from shokado.lifecycle.importing.leaves import within


def has_labels(model: Any) -> bool:
    """Whether a classifier has learned several labels a row."""
    last = _last(model)
    if boosters.is_xgboost(last):
        return boosters.task_of(last).has_labels
    if not isinstance(last, BaseEstimator):
        return False
    if isinstance(getattr(last, "classes_", None), list):
        return True
    binarizer = getattr(last, "label_binarizer_", getattr(last, "_label_binarizer", None))
    return getattr(binarizer, "y_type_", "").startswith("multilabel")


def count_of(model: Any) -> int:
    """How many labels a row it has learned."""
    last = _last(model)
    return boosters.targets_of(last) if boosters.is_xgboost(last) else len(last.classes_)


def task_of(model: Any) -> Task:
    """Raises `UnsupportedModel` where there are no scores."""
    if hasattr(model, "predict_proba"):
        return Task.MULTILABEL
    if hasattr(model, "decision_function"):
        return Task.MULTILABEL_MARGIN
    raise UnsupportedModel(
        f"{type(_last(model)).__name__} gives several labels a row without probabilities: take OneVsRestClassifier in "
        "its place, or a classifier with probabilities."
    )


def classes_of(model: Any) -> list[Any]:
    """The two classes of each label. Raises `UnsupportedModel` where labels differ in them, or one has more."""
    known = [np.asarray(classes).tolist() for classes in _classes(model)]
    if not known:
        return [0, 1]
    most: list[Any] = max(known, key=len)
    if len(most) > 2:
        raise UnsupportedModel(
            f"Its label {known.index(most)} has {len(most)} classes, where several labels a row have two: log a model "
            "for each label."
        )
    if len(most) < 2:
        raise UnsupportedModel("Each of its labels has the same class in all rows, so there is nothing to predict.")
    if odd := next((classes for classes in known if not set(classes) <= set(most)), None):
        raise UnsupportedModel(
            f"One of its labels has the classes {odd} and another one {most}, where all have the same two: write them "
            "as 0 and 1."
        )
    return most


def _classes(model: Any) -> list[Any]:
    """The classes of each label; an empty list where they are 0 and 1 for all."""
    known = model.classes_
    return list(known) if isinstance(known, list) else []


def gives_lists(model: Any) -> bool:
    """Whether `predict_proba` gives a list."""
    last = _last(model)
    return isinstance(getattr(last, "classes_", None), list) and not isinstance(last, ClassifierChain)


def passes_labels_on(model: Any) -> bool:
    """Whether what it says of a label depends on whether another one's probability is above the threshold."""
    last = _last(model)
    return isinstance(last, ClassifierChain) and last.chain_method_ == "predict"


def scores_of(model: Any, rows: Any) -> NDArray[np.float64]:
    """The probability of the second class of each label, or what decides for it: [N, labels]."""
    if not hasattr(model, "predict_proba"):
        return np.asarray(model.decision_function(rows), dtype=np.float64)
    found = model.predict_proba(rows)
    if not isinstance(found, list):
        return np.asarray(found, dtype=np.float64)
    return second_of_each(found, _classes(model)).astype(np.float64)


def second_of_each(found: Sequence[Any], classes: Sequence[Any]) -> NDArray[Any]:
    """What is known of the second class of each label, [N, labels]; `found` has [N, classes] for each label."""
    _, second = max((np.asarray(each).tolist() for each in classes), key=len)
    return np.column_stack(
        [
            np.asarray(label)[:, list(each).index(second)] if second in each else np.zeros(len(label))
            for label, each in zip(found, classes, strict=True)
        ]
    )


def as_values(model: Any) -> Any:
    """A regression of the same probabilities, in the place of neighbours; any other model as it is."""
    if isinstance(model, Pipeline):
        return Pipeline([*model.steps[:-1], (model.steps[-1][0], as_values(model[-1]))])
    if (inner := within(model)) is not None and has_labels(inner):
        return as_values(inner)
    if not isinstance(model, KNeighborsClassifier) or not has_labels(model):
        return model
    values = KNeighborsRegressor()
    values.__dict__.update({name: value for name, value in vars(model).items() if name != "classes_"})
    of_classes = [np.eye(len(classes))[model._y[:, at]] for at, classes in enumerate(model.classes_)]
    values._y = second_of_each(of_classes, model.classes_)
    return values


def _last(model: Any) -> Any:
    """The last step of a pipeline, or of what a search holds, or the model itself."""
    while True:
        if isinstance(model, Pipeline):
            model = model[-1]
        elif (inner := within(model)) is not None:
            model = inner
        else:
            return model
