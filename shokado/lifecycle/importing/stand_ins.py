"""Stand-ins: what takes the place of a fitted step that skl2onnx does not convert, or converts to something else."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.cross_decomposition import CCA, PLSCanonical, PLSRegression
from sklearn.decomposition import FactorAnalysis, FastICA, MiniBatchSparsePCA, SparsePCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.feature_selection import SequentialFeatureSelector
from sklearn.impute import KNNImputer, MissingIndicator, SimpleImputer
from sklearn.impute._iterative import IterativeImputer
from sklearn.kernel_approximation import Nystroem, RBFSampler
from sklearn.pipeline import FeatureUnion
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    Normalizer,
    PowerTransformer,
    QuantileTransformer,
    SplineTransformer,
)
from sklearn.random_projection import SparseRandomProjection

from shokado.lifecycle.importing.built_steps import BuiltStep
from shokado.lifecycle.importing.dense_models import dense
from shokado.lifecycle.importing.gap_fillers import by_lines, by_neighbours
from shokado.lifecycle.importing.graph_builder import Nodes
from shokado.lifecycle.importing.interpolations import normal_quantiles
from shokado.lifecycle.importing.kernels import nystroem, random_waves, squares
from shokado.lifecycle.importing.numeric_steps import NumericFunction, bins, function_of, imputer, indicator
from shokado.lifecycle.importing.powers import powers
from shokado.lifecycle.importing.splines import spline

_LINES = (
    CCA,
    FactorAnalysis,
    FastICA,
    LinearDiscriminantAnalysis,
    MiniBatchSparsePCA,
    PLSCanonical,
    PLSRegression,
    SparsePCA,
    SparseRandomProjection,
)
"""Steps of which each output is a line of the columns."""


def is_replaced(step: Any) -> bool:
    """Whether a step has a stand-in here."""
    match step:
        case FunctionTransformer():
            return step.func is not None
        case QuantileTransformer():
            return bool(step.output_distribution == "normal")
        case Normalizer():
            return bool(step.norm == "max")
        case SimpleImputer():
            return step.add_indicator or isinstance(step.missing_values, int)
    return type(step) in _STAND_INS or type(step) in (KBinsDiscretizer, *_LINES) or _is_misread(step)


def convertible(step: Any, exact: Sequence[bool]) -> Any:
    """The step as skl2onnx converts it. Raises `UnsupportedModel`.

    Args:
        exact: for each of its columns whether float32 holds their numbers as they come.
    """
    if type(step) is KBinsDiscretizer:
        return bins(step, exact)
    if type(step) is SimpleImputer:
        return imputer(step)
    if not is_replaced(step):
        return step
    if type(step) in _LINES:
        return _line(step)
    return _chosen(step) if _is_misread(step) else _STAND_INS[type(step)](dense(step))


def _is_misread(step: Any) -> bool:
    """Whether it chooses columns and is one that skl2onnx does not know, or finds nothing in: it chooses the first."""
    if not hasattr(step, "get_support"):
        return False
    return type(step) is SequentialFeatureSelector or step.get_support(indices=True).tolist() == [0]


def _chosen(step: Any) -> BuiltStep:
    columns = step.get_support(indices=True)
    return BuiltStep(lambda nodes, source: nodes.add("Gather", [source, nodes.constant(columns)], axis=1), len(columns))


def _line(step: Any) -> BuiltStep:
    """What it makes of nothing, and of a one in each column."""
    width = int(step.n_features_in_)
    answers = step.transform(np.vstack([np.zeros(width), np.eye(width)]))
    answers = np.asarray(answers.toarray() if hasattr(answers, "toarray") else answers, dtype=np.float64)
    offsets, weights = answers[:1], answers[1:] - answers[:1]

    def build(nodes: Nodes, source: str) -> str:
        return nodes.add("Add", [nodes.add("MatMul", [source, nodes.constant(weights)]), nodes.constant(offsets)])

    return BuiltStep(build, weights.shape[1])


def _with_indicator(fill: Callable[[Any], BuiltStep]) -> Callable[[Any], Any]:
    def both(step: Any) -> Any:
        filled = fill(step)
        if not step.add_indicator:
            return filled
        return FeatureUnion([("values", filled), ("gaps", indicator(step.indicator_))])

    return both


def _by_largest(step: Normalizer) -> BuiltStep:
    def build(nodes: Nodes, source: str) -> str:
        largest = nodes.add("ReduceMax", [nodes.add("Abs", [source])], axes=[1], keepdims=1)
        nothing, everything = nodes.constant(np.zeros(1)), nodes.constant(np.ones(1))
        return nodes.add(
            "Div", [source, nodes.add("Where", [nodes.add("Equal", [largest, nothing]), everything, largest])]
        )

    return BuiltStep(build, int(step.n_features_in_))


def _distances(step: Any) -> BuiltStep:
    centers = np.asarray(step.cluster_centers_, dtype=np.float64)
    return BuiltStep(lambda nodes, source: nodes.add("Sqrt", [squares(nodes, source, centers)]), len(centers))


_STAND_INS: dict[type, Callable[[Any], Any]] = {
    FunctionTransformer: lambda step: NumericFunction(function_of(step)),
    IterativeImputer: _with_indicator(by_lines),
    KMeans: _distances,
    KNNImputer: _with_indicator(by_neighbours),
    MiniBatchKMeans: _distances,
    MissingIndicator: indicator,
    Normalizer: _by_largest,
    Nystroem: nystroem,
    PowerTransformer: powers,
    QuantileTransformer: normal_quantiles,
    RBFSampler: random_waves,
    SplineTransformer: spline,
}
