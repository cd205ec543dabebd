"""Gap fillers: imputers that make a missing value of a row's other ones, by its neighbours or by a line."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto
from sklearn.impute import KNNImputer
from sklearn.linear_model._base import LinearModel
from sklearn.metrics.pairwise import nan_euclidean_distances

from shokado.lifecycle.errors import UnsupportedModel
from shokado.lifecycle.importing.built_steps import BuiltStep
from shokado.lifecycle.importing.graph_builder import Nodes
from shokado.lifecycle.importing.neighbours import weights_of_nearest

_TRIED_ROWS = 1000
"""Rows of the training that are tried for neighbours that are equally far."""
_SAME = 1e-9
"""Share of a squared distance that rounding may take of it."""


def by_neighbours(step: KNNImputer) -> BuiltStep:
    """What fills in the means of the nearest rows of the training. Raises `UnsupportedModel`."""
    if callable(step.weights) or step.metric != "nan_euclidean":
        raise UnsupportedModel(
            "Its KNNImputer has weights or a metric of its own, which are Python code: take weights='uniform' or "
            "'distance'."
        )
    learned = np.where(step._mask_fit_X, np.nan, step._fit_X).astype(np.float64)
    if _has_ties(learned, step.n_neighbors):
        raise UnsupportedModel(
            "Rows of its KNNImputer's training are equally far from each other, as whole numbers and short decimals "
            "often are, and which of them count depends on how scikit-learn sorts them: fill gaps in with a "
            "SimpleImputer or an IterativeImputer."
        )
    kept = np.flatnonzero(step._valid_mask)

    def build(nodes: Nodes, source: str) -> str:
        add, constant = nodes.add, nodes.constant
        missing = _missing(nodes, source, step.missing_values)
        far = _distances(nodes, source, missing, learned)
        filled = [_from_nearest(nodes, far, learned[:, column], step) for column in kept]
        found = filled[0] if len(filled) == 1 else add("Concat", filled, axis=1)
        given = add("Gather", [source, constant(kept)], axis=1)
        lacking = add("Gather", [missing, constant(kept)], axis=1)
        return add("Where", [lacking, found, given])

    return BuiltStep(build, len(kept))


def _has_ties(learned: NDArray[np.float64], count: int) -> bool:
    """Whether rows like those of the training have a nearest neighbour too many, with another value."""
    random = np.random.default_rng(0)
    some = learned[random.permutation(len(learned))[:_TRIED_ROWS]]
    for column in range(learned.shape[1]):
        donors = learned[~np.isnan(learned[:, column])]
        if len(donors) <= count:
            continue
        hidden = some.copy()
        hidden[:, column] = np.nan
        far = nan_euclidean_distances(hidden, donors, squared=True)
        far = np.where(np.isnan(far), np.inf, far)
        order = np.argsort(far, axis=1, kind="stable")[:, count - 1 : count + 1]
        last, next_one = np.take_along_axis(far, order, axis=1).T
        values = donors[order, column]
        size = _SAME * np.nanmax(donors**2, axis=0, initial=0).sum()
        is_tie = np.isfinite(next_one) & (next_one - last <= _SAME * next_one + size * 1e-6)
        if (is_tie & (values[:, 0] != values[:, 1])).any():
            return True
    return False


def _missing(nodes: Nodes, source: str, value: float) -> str:
    if np.isnan(value):
        return nodes.add("IsNaN", [source])
    return nodes.add("Equal", [source, nodes.constant(np.array(float(value)))])


def _distances(nodes: Nodes, source: str, missing: str, learned: NDArray[np.float64]) -> str:
    """Mean squares of the differences in the columns that both rows have, infinite without any: [N, rows].

    Around the middle of each column, where squares lose the fewest digits.
    """
    add, constant = nodes.add, nodes.constant
    there = ~np.isnan(learned)
    middle = np.where(there.any(axis=0), np.nansum(learned, axis=0) / np.maximum(there.sum(axis=0), 1), 0)
    points, known = np.where(there, learned - middle, 0).T, there.astype(np.float64).T
    nothing, everything = constant(np.zeros(1)), constant(np.ones(1))
    numbers = add("Where", [missing, nothing, add("Sub", [source, constant(middle)])])
    given = add("Where", [missing, nothing, everything])
    squares = [
        add("MatMul", [add("Mul", [numbers, numbers]), constant(known)]),
        add("MatMul", [numbers, constant(-2 * points)]),
        add("MatMul", [given, constant(points**2)]),
    ]
    shared = add("MatMul", [given, constant(known)])
    is_none = add("Equal", [shared, nothing])
    total = add("Max", [add("Sum", squares), nothing])
    return add("Where", [is_none, constant(np.array([np.inf])), add("Div", [total, shared])])


def _from_nearest(nodes: Nodes, far: str, values: NDArray[np.float64], step: KNNImputer) -> str:
    """The mean of the nearest rows that have a value; of all rows where none can be compared: [N, 1]."""
    add, constant, nothing = nodes.add, nodes.constant, nodes.constant(np.zeros(1))
    donors = np.flatnonzero(~np.isnan(values))
    mean, count = float(values[donors].mean()), min(step.n_neighbors, len(donors))
    if len(donors) < len(values):
        far = add("Gather", [far, constant(donors)], axis=1)
    weights = weights_of_nearest(nodes, far, count, by_distance=step.weights == "distance")
    total = add("ReduceSum", [weights, constant(np.array([1]))], keepdims=1)
    sums = add("MatMul", [weights, constant(values[donors][:, None])])
    return add("Where", [add("Equal", [total, nothing]), constant(np.array([mean])), add("Div", [sums, total])])


def by_lines(step: Any) -> BuiltStep:
    """What an IterativeImputer of linear models fills in, round by round. Raises `UnsupportedModel`."""
    models = [triplet.estimator for triplet in step.imputation_sequence_]
    if step.sample_posterior:
        raise UnsupportedModel("Its IterativeImputer draws values by chance (sample_posterior): take it without.")
    if other := next((model for model in models if not isinstance(model, LinearModel)), None):
        raise UnsupportedModel(
            f"Its IterativeImputer asks a {type(other).__name__} for each value: take BayesianRidge, the default."
        )
    first = step.initial_imputer_
    starts = np.asarray(first.statistics_, dtype=np.float64)
    if np.isnan(starts).any() or step._is_empty_feature.any():
        raise UnsupportedModel("Its IterativeImputer was trained with a column without any value: leave that one out.")

    def build(nodes: Nodes, source: str) -> str:
        add, constant = nodes.add, nodes.constant
        missing = _missing(nodes, source, step.missing_values)
        found = add("Where", [missing, constant(starts), source])
        for triplet in step.imputation_sequence_ if step.n_iter_ else ():
            column, model = triplet.feat_idx, triplet.estimator
            weights = np.zeros((len(starts), 1))
            weights[triplet.neighbor_feat_idx, 0] = np.ravel(model.coef_)
            bounds = [constant(np.array([float(ends[column])])) for ends in (step._min_value, step._max_value)]
            line = add("MatMul", [found, constant(weights)])
            line = add("Add", [line, constant(np.ravel(np.asarray(model.intercept_, dtype=np.float64)))])
            value = add("Min", [add("Max", [line, bounds[0]]), bounds[1]])
            # A number more than 0 is in the column that is filled in alone.
            others = np.where(np.arange(len(starts)) == column, 0.0, 1.0)
            kept = add("Or", [add("Not", [missing]), add("Cast", [constant(others)], to=TensorProto.BOOL)])
            found = add("Where", [kept, found, value])
        return found

    return BuiltStep(build, len(starts))
