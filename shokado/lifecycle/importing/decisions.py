"""Decisions: models of labels without probabilities, whose labels follow from a decision function.

    classifiers without `predict_proba`    the 2nd class above 0, of several classes the largest one; of labels each
    detectors of anomalies                 1 from 0 on, or above it, else -1
    clusterings by the nearest center      the largest one, see `_nearness`

A fitted scikit-learn model goes in; what it decides between and by which scores come out, and what has a conversion to
ONNX in its place: a regression of the same values.
"""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper
from sklearn.base import BaseEstimator, is_classifier, is_outlier_detector
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.covariance import EllipticEnvelope
from sklearn.ensemble import ExtraTreesRegressor, IsolationForest
from sklearn.linear_model import LinearRegression, SGDOneClassSVM
from sklearn.linear_model._base import LinearClassifierMixin
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputRegressor
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import Pipeline
from sklearn.svm import SVC, SVR, NuSVC, OneClassSVM

from runners.artefacts.card import ABOVE_ZERO, Task
from shokado.lifecycle.errors import UnsupportedModel
from shokado.lifecycle.importing import multilabel
from shokado.lifecycle.importing.built_steps import BuiltStep
from shokado.lifecycle.importing.double_graphs import takes_doubles
from shokado.lifecycle.importing.graph_builder import Nodes
from shokado.lifecycle.importing.leaves import WITH_THRESHOLD, chain_of, is_constant

_CLUSTERINGS = (KMeans, MiniBatchKMeans)
_FROM_ZERO = (EllipticEnvelope, IsolationForest, LocalOutlierFactor, SGDOneClassSVM)
"""Detectors for which 0 is no anomaly."""
ANOMALY, NORMAL = -1, 1


def task_of(model: Any) -> Task | None:
    """The task of a model whose labels follow from a decision function; None for any other.

    Raises `UnsupportedModel` for one whose labels do not, and says what would help.
    """
    if hasattr(model, "predict_proba") or not isinstance(model, BaseEstimator):
        return None
    last = _last(model)
    if isinstance(last, LocalOutlierFactor) and not last.novelty:
        raise UnsupportedModel("LocalOutlierFactor knows the rows alone that it learned: train it with novelty=True.")
    if isinstance(last, WITH_THRESHOLD):
        raise UnsupportedModel(
            f"{type(last).__name__} has a threshold on a decision function, where 0 belongs: log the classifier in it."
        )
    if is_outlier_detector(model) and hasattr(model, "predict"):
        return Task.ANOMALY
    if multilabel.has_labels(model):
        return multilabel.task_of(model)
    if isinstance(last, _CLUSTERINGS) or (is_classifier(model) and hasattr(model, "decision_function")):
        return Task.BINARY_MARGIN if len(classes_of(model)) == 2 else Task.MULTICLASS_MARGIN
    return None


def classes_of(model: Any) -> list[Any]:
    """The labels that `predict` gives, in the order of the scores; where one score tells two apart, large ones mean the
    second one.
    """
    last = _last(model)
    if isinstance(last, _CLUSTERINGS):
        return list(range(len(last.cluster_centers_)))
    if multilabel.has_labels(model):
        return multilabel.classes_of(model)
    found: list[Any] = np.asarray(getattr(model, "classes_", (ANOMALY, NORMAL))).tolist()
    return found


def positive_from(model: Any) -> float:
    """The smallest float32 score from which `predict` gives the second of two labels."""
    return 0.0 if isinstance(_last(model), _FROM_ZERO) else ABOVE_ZERO


def scores_of(model: Any, rows: Any) -> NDArray[Any]:
    """The model's own scores of rows in the form that it takes: [N], [N, classes] or [N, labels]."""
    last = _last(model)
    if not isinstance(last, _CLUSTERINGS):
        return np.asarray(model.decision_function(rows))
    model = getattr(model, "best_estimator_", model)
    given = model[:-1].transform(rows) if isinstance(model, Pipeline) and len(model) > 1 else rows
    weights, offsets = _nearness(last)
    scores = np.asarray(given, dtype=np.float64) @ weights.T + offsets
    return np.asarray(scores[:, 0] if len(weights) == 1 else scores)


def as_values(model: Any) -> Any:
    """A model whose `predict` gives those scores, but for what `finish` adds; any other model as it is.

    Raises `UnsupportedModel` for a decision function without a conversion.
    """
    return model if task_of(model) is None else _with_last(model, _values_of)


def finish(graph: ModelProto, model: Any) -> None:
    """Let the graph of `as_values` answer with the scores themselves, in place."""
    last = _last(model)
    if isinstance(last, IsolationForest):
        _append_isolation(graph, last)


def _last(model: Any) -> Any:
    """The last step of a pipeline or of the best one of a search, or the model itself."""
    model = getattr(model, "best_estimator_", model)
    return model if (chain := chain_of(model)) is None else _last(chain.model)


def _with_last(model: Any, change: Callable[[Any], Any]) -> Any:
    model = getattr(model, "best_estimator_", model)
    if (chain := chain_of(model)) is None:
        return change(model)
    return Pipeline([(f"step{at}", step) for at, step in enumerate((*chain.steps, _with_last(chain.model, change)))])


def _values_of(model: Any) -> Any:
    if isinstance(model, OneVsRestClassifier):
        several = MultiOutputRegressor(LinearRegression())
        several.estimators_ = [
            _linear(model, np.zeros((1, model.n_features_in_)), estimator.y_)
            if is_constant(estimator)
            else _with_last(estimator, _values_of)
            for estimator in model.estimators_
        ]
        _describe(several, model)
        return several if len(several.estimators_) > 1 else several.estimators_[0]
    if isinstance(model, SGDOneClassSVM):
        return _linear(model, model.coef_, -model.offset_)
    if isinstance(model, LinearClassifierMixin):
        return _linear(model, model.coef_, model.intercept_)
    if isinstance(model, _CLUSTERINGS):
        return _linear(model, *_nearness(model))
    if isinstance(model, SVC | NuSVC | OneClassSVM):
        return vectors_of(model)
    if isinstance(model, IsolationForest):
        return _path_lengths(model)
    if isinstance(model, EllipticEnvelope):
        return _within_ellipse(model)
    if isinstance(model, LocalOutlierFactor):
        return model
    raise UnsupportedModel(
        f"The decision function of {type(model).__name__} has no conversion to ONNX: take a linear classifier, or one "
        "with probabilities, such as CalibratedClassifierCV makes of it."
    )


def _describe(values: Any, model: Any) -> None:
    """Let it take the columns of the model."""
    for name in ("n_features_in_", "feature_names_in_"):
        if hasattr(model, name):
            setattr(values, name, getattr(model, name))


def _linear(model: Any, weights: Any, offsets: Any) -> LinearRegression:
    line = LinearRegression()
    line.coef_ = np.asarray(weights.toarray() if hasattr(weights, "toarray") else weights, dtype=np.float64)
    line.coef_ = np.atleast_2d(line.coef_)
    line.intercept_ = np.array(np.broadcast_to(offsets, len(line.coef_)), dtype=np.float64)
    _describe(line, model)
    return line


def _nearness(model: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights and offsets of what is linear and largest for the nearest center: how much smaller the squared distance
    to it is than the mean of those to all; of two centers, that to the second than that to the first.
    """
    centers = np.asarray(model.cluster_centers_, dtype=np.float64)
    weights, offsets = 2 * centers, -(centers**2).sum(axis=1)
    if len(centers) == 2:
        return np.diff(weights, axis=0), np.diff(offsets)
    return weights - weights.mean(axis=0), offsets - offsets.mean()


def _within_ellipse(model: EllipticEnvelope) -> BuiltStep:
    """How much less than the offset the squared Mahalanobis distance to the middle is."""
    middle, precision = model.location_[None, :].astype(np.float64), model.get_precision().astype(np.float64)

    def build(nodes: Nodes, source: str) -> str:
        away = nodes.add("Sub", [source, nodes.constant(middle)])
        crossed = nodes.add("Mul", [away, nodes.add("MatMul", [away, nodes.constant(precision)])])
        far = nodes.add("ReduceSum", [crossed, nodes.constant(np.array([1]))], keepdims=1)
        return nodes.add("Sub", [nodes.constant(np.array([-float(model.offset_)])), far])

    return BuiltStep(build, 1)


def vectors_of(model: Any) -> SVR:
    """A regression whose values are the decisions between two classes: the same kernel over the same support vectors.

    Raises `UnsupportedModel` for more classes.
    """
    if not isinstance(model, OneClassSVM) and len(model.classes_) > 2:
        raise UnsupportedModel(
            f"{type(model).__name__} decides between {len(model.classes_)} classes by votes, which have no conversion "
            "to ONNX: take OneVsRestClassifier of it, or a linear classifier."
        )
    values = SVR()
    values.__dict__.update(vars(model))
    return values


def _path_lengths(model: IsolationForest) -> ExtraTreesRegressor:
    """A forest that averages the lengths of paths, each with what would follow if its leaf had been split further."""
    forest = ExtraTreesRegressor(len(model.estimators_))
    forest.estimators_ = []
    for tree, features in zip(model.estimators_, model.estimators_features_, strict=True):
        changed = copy.deepcopy(tree)
        inner = changed.tree_
        depths = np.zeros(inner.node_count)
        for at in range(inner.node_count):  # parents come before their children
            for child in (inner.children_left[at], inner.children_right[at]):
                if child >= 0:
                    depths[child] = depths[at] + 1
        inner.value[:, 0, 0] = depths + average_path(inner.n_node_samples)
        splits = inner.children_left >= 0
        inner.feature[splits] = np.asarray(features)[inner.feature[splits]]
        changed.n_features_in_ = model.n_features_in_
        forest.estimators_.append(changed)
    forest.n_outputs_ = 1
    _describe(forest, model)
    return forest


def average_path(rows: NDArray[Any]) -> NDArray[np.float64]:
    """The mean length of a path in a tree that tells so many rows apart, as in "Isolation Forest" (Liu, 2008)."""
    many = np.maximum(rows, 3).astype(np.float64)
    longer = 2 * (np.log(many - 1) + np.euler_gamma) - 2 * (many - 1) / many
    return np.where(rows <= 1, 0.0, np.where(rows == 2, 1.0, longer))


def _append_isolation(graph: ModelProto, model: IsolationForest) -> None:
    """-(2 ** -(mean length / expected length)) - offset."""
    (output,) = graph.graph.output
    expected = average_path(np.array([model.max_samples_]))[0]
    constants = {"per_length": -np.log(2) / expected, "offset": model.offset_}
    number = np.float64 if takes_doubles(graph) else np.float32
    graph.graph.initializer.extend(
        onnx.numpy_helper.from_array(np.array(value, dtype=number), f"isolation_{name}")
        for name, value in constants.items()
    )
    graph.graph.node.extend(
        [
            helper.make_node("Mul", [output.name, "isolation_per_length"], ["isolation_exponent"]),
            helper.make_node("Exp", ["isolation_exponent"], ["isolation_share"]),
            helper.make_node("Add", ["isolation_share", "isolation_offset"], ["isolation_anomaly"]),
            helper.make_node("Neg", ["isolation_anomaly"], ["isolation_score"]),
        ]
    )
    del graph.graph.output[:]
    kind = TensorProto.DOUBLE if takes_doubles(graph) else TensorProto.FLOAT
    graph.graph.output.append(helper.make_tensor_value_info("isolation_score", kind, None))
