"""Built models: models that skl2onnx does not convert, or converts to something else, as steps that give scores."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
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
    RadiusNeighborsRegressor,
)
from sklearn.neural_network import MLPRegressor

from shokado.lifecycle.errors import UnsupportedModel
from shokado.lifecycle.importing.built_steps import BuiltStep
from shokado.lifecycle.importing.graph_builder import Nodes
from shokado.lifecycle.importing.interpolations import lines
from shokado.lifecycle.importing.kernels import alike, squares
from shokado.lifecycle.importing.neighbours import weights_of_nearest
from shokado.lifecycle.importing.statsmodels_results import FittedLine

_NEIGHBOURS = (KNeighborsClassifier, KNeighborsRegressor)
_INSTEAD = {
    DummyClassifier: "strategy='prior'",
    GaussianProcessClassifier: "an SVC within a CalibratedClassifierCV",
    NearestCentroid: "a LinearDiscriminantAnalysis, whose labels follow from its probabilities",
    RadiusNeighborsClassifier: "a KNeighborsClassifier",
    RadiusNeighborsRegressor: "a KNeighborsRegressor",
}
"""Models whose scores, or some of them, have no conversion, and what to take."""
_FIXED = ("prior", "most_frequent", "constant")
_ACTIVATIONS = {"relu": "Relu", "tanh": "Tanh", "logistic": "Sigmoid", "identity": "Identity"}


def is_built(model: Any) -> bool:
    """Whether a model, none of a combination, is converted here."""
    if type(model) in _NEIGHBOURS:
        return bool(model.weights == "distance" and model.effective_metric_ == "euclidean")
    if type(model) is MLPRegressor:
        return bool(model.out_activation_ == "exp")
    if isinstance(model, FittedLine):
        return True
    return type(model) in (LinearDiscriminantAnalysis, *_BUILDERS, *_INSTEAD)


def built(model: Any, *, is_decision: bool = False) -> BuiltStep:
    """What gives a model's probabilities or values, or its decision function. Raises `UnsupportedModel`."""
    if isinstance(model, LinearDiscriminantAnalysis):
        scores = _lines_of(model)
        return scores if is_decision else _shares(scores, len(model.classes_))
    if isinstance(model, FittedLine):
        return model.built()
    if type(model) in _BUILDERS:
        return _BUILDERS[type(model)](model)
    if isinstance(model, DummyClassifier) and model.strategy in _FIXED:
        return _fixed(np.asarray(model.predict_proba(np.zeros((1, 1))), dtype=np.float64))
    name = type(model).__name__
    raise UnsupportedModel(f"Its {name} has no conversion to ONNX: take {_INSTEAD[type(model)]}.")


def _lines_of(model: LinearDiscriminantAnalysis) -> BuiltStep:
    weights = np.asarray(model.coef_, dtype=np.float64).T
    offsets = np.asarray(model.intercept_, dtype=np.float64)[None, :]

    def build(nodes: Nodes, source: str) -> str:
        return nodes.add("Add", [nodes.add("MatMul", [source, nodes.constant(weights)]), nodes.constant(offsets)])

    return BuiltStep(build, weights.shape[1])


def _shares(scores: BuiltStep, classes: int) -> BuiltStep:
    """Probabilities in proportion to the exponentials of scores, of which two classes have one for the second."""

    def build(nodes: Nodes, source: str) -> str:
        found = scores.build(nodes, source)
        if classes == 2:
            found = nodes.add("MatMul", [found, nodes.constant(np.array([[0.0, 1.0]]))])
        return nodes.add("Softmax", [found], axis=1)

    return BuiltStep(build, classes)


def _kernel_ridge(model: KernelRidge) -> BuiltStep:
    points = np.asarray(model.X_fit_, dtype=np.float64)
    weights = np.asarray(model.dual_coef_, dtype=np.float64).reshape(len(points), -1)

    def build(nodes: Nodes, source: str) -> str:
        return nodes.add("MatMul", [alike(nodes, source, points, model), nodes.constant(weights)])

    return BuiltStep(build, weights.shape[1])


def _isotonic(model: IsotonicRegression) -> BuiltStep:
    if model.out_of_bounds == "raise":
        raise UnsupportedModel(
            "Its IsotonicRegression has out_of_bounds='raise', which refuses rows beyond those of its training: take "
            "'clip'."
        )
    x, y = (np.asarray(points, dtype=np.float64) for points in (model.X_thresholds_, model.y_thresholds_))

    def build(nodes: Nodes, source: str) -> str:
        found = lines(nodes, source, x, y)
        if model.out_of_bounds == "clip":
            return found
        bounds = [nodes.constant(np.array([float(end)])) for end in (model.X_min_, model.X_max_)]
        is_beyond = nodes.add("Or", [nodes.add("Less", [source, bounds[0]]), nodes.add("Greater", [source, bounds[1]])])
        return nodes.add("Where", [is_beyond, nodes.constant(np.array([np.nan])), found])

    return BuiltStep(build, 1)


def _by_distance(model: Any) -> BuiltStep:
    """The nearest rows of the training, each weighed by one over its distance."""
    is_of_classes = isinstance(model, KNeighborsClassifier)
    values = np.eye(len(model.classes_))[model._y] if is_of_classes else np.asarray(model._y, dtype=np.float64)
    values = values.reshape(len(values), -1)
    learned = np.asarray(model._fit_X, dtype=np.float64)

    def build(nodes: Nodes, source: str) -> str:
        add, constant = nodes.add, nodes.constant
        weights = weights_of_nearest(nodes, squares(nodes, source, learned), model.n_neighbors, by_distance=True)
        total = add("ReduceSum", [weights, constant(np.array([1]))], keepdims=1)
        return add("Div", [add("MatMul", [weights, constant(values)]), total])

    return BuiltStep(build, values.shape[1])


def _network(model: MLPRegressor) -> BuiltStep:
    """A network whose last layer is an exponential, as one of counts has."""
    layers = list(zip(model.coefs_, model.intercepts_, strict=True))

    def build(nodes: Nodes, source: str) -> str:
        found = source
        for at, (weights, offsets) in enumerate(layers):
            given = nodes.add("MatMul", [found, nodes.constant(np.asarray(weights, dtype=np.float64))])
            given = nodes.add("Add", [given, nodes.constant(np.asarray(offsets, dtype=np.float64))])
            found = nodes.add("Exp" if at == len(layers) - 1 else _ACTIVATIONS[model.activation], [given])
        return found

    return BuiltStep(build, layers[-1][0].shape[1])


def _fixed(answer: NDArray[np.float64]) -> BuiltStep:
    """The same for each row."""

    def build(nodes: Nodes, source: str) -> str:
        first = nodes.add("Gather", [source, nodes.constant(np.array([0]))], axis=1)
        return nodes.add("Where", [nodes.add("IsNaN", [first]), nodes.constant(answer), nodes.constant(answer)])

    return BuiltStep(build, answer.shape[1])


_BUILDERS: dict[type, Callable[[Any], BuiltStep]] = {
    DummyRegressor: lambda model: _fixed(np.asarray(model.constant_, dtype=np.float64).reshape(1, -1)),
    IsotonicRegression: _isotonic,
    KernelRidge: _kernel_ridge,
    KNeighborsClassifier: _by_distance,
    KNeighborsRegressor: _by_distance,
    MLPRegressor: _network,
}
