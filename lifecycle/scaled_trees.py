"""Trees behind a scaler: a pipeline goes in, an ONNX graph comes out whose thresholds are of the unscaled columns.

Left to itself a converted scaler computes in float32 where scikit-learn computes in float64, so that rows near a
threshold take the other side: one of a thousand in a forest over columns whose mean is far from 0. Scalers keep the
order of numbers, so each threshold has its like before the scaler, to the last bit: the largest float32 that still goes
to the side of small values. It saves an operator, too.
"""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler

_SCALERS = (StandardScaler, MinMaxScaler, MaxAbsScaler, RobustScaler)
_LARGEST = int(np.float32(np.finfo(np.float32).max).view(np.int32))
_BITS = 33
"""Halvings that find one float32 among all of them."""


def scaler_of(model: Any) -> Pipeline | None:
    """What comes before the last step of a pipeline, if that is nothing but scalers."""
    if not isinstance(model, Pipeline) or len(model.steps) < 2:
        return None
    steps = [step for _, step in model.steps[:-1]]
    known = all(isinstance(step, _SCALERS) and not getattr(step, "clip", False) for step in steps)
    return model[:-1] if known else None


def unscale(graph: ModelProto, scaler: Pipeline, last: Any) -> bool:
    """Put the thresholds of the graph of `last` before the scaler, in place; False where it has more than trees."""
    (given,) = graph.graph.input
    nodes = [node for node in graph.graph.node if given.name in node.input]
    if not nodes or not all(node.op_type.startswith("TreeEnsemble") for node in nodes):
        return False
    exact = [tree.nodes["num_threshold"] for trees in getattr(last, "_predictors", ()) for tree in trees]
    for node in nodes:
        _unscale(node, scaler, np.concatenate(exact) if exact else None)
    return True


def _unscale(node: NodeProto, scaler: Pipeline, exact: NDArray[np.float64] | None) -> None:
    """`exact` are the thresholds of trees that compare in float64; the others make float32 of what the scaler gives."""
    attributes = {item.name: item for item in node.attribute}
    features = np.array(attributes["nodes_featureids"].ints)
    values = np.array(attributes["nodes_values"].floats, dtype=np.float64) if exact is None else exact
    splits = np.array([mode != b"LEAF" for mode in attributes["nodes_modes"].strings])
    by_column = [np.unique(values[splits & (features == at)]) for at in range(scaler.n_features_in_)]
    bounds = np.full((max(map(len, by_column)), len(by_column)), np.nan)
    for at, column in enumerate(by_column):
        bounds[: len(column), at] = column
    found = _largest_within(scaler, bounds, np.float32 if exact is None else np.float64)
    unscaled = values.copy()
    for at, column in enumerate(by_column):
        mine = splits & (features == at)
        unscaled[mine] = found[np.searchsorted(column, values[mine]), at]
    attributes["nodes_values"].floats[:] = np.where(splits, unscaled, 0).astype(np.float32).tolist()


def _largest_within(scaler: Pipeline, bounds: NDArray[np.float64], compared_as: Any) -> NDArray[np.float32]:
    """For each bound [N, columns] the largest float32 that the scaler does not take beyond it."""
    low, high = np.full(bounds.shape, -_LARGEST), np.full(bounds.shape, _LARGEST)
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(_BITS):
            middle = (low + high + 1) // 2
            within = _scaled(scaler, _numbers(middle)).astype(compared_as) <= bounds
            low, high = np.where(within, middle, low), np.where(within, high, np.maximum(middle - 1, low))
    return _numbers(low)


def _numbers(places: NDArray[np.int64]) -> NDArray[np.float32]:
    """The float32 at each place in their order, which is 0 for 0."""
    magnitudes = np.abs(places).astype(np.int32).view(np.float32)
    return np.where(places < 0, -magnitudes, magnitudes)


def _scaled(scaler: Pipeline, rows: NDArray[np.float32]) -> NDArray[np.float64]:
    names = getattr(scaler, "feature_names_in_", None)
    wide = rows.astype(np.float64)
    return np.asarray(scaler.transform(wide if names is None else pd.DataFrame(wide, columns=list(names))))
