"""Trees behind a scaler: a pipeline goes in, an ONNX graph comes out whose thresholds are of the unscaled columns.

Left to itself a converted scaler computes in float32 where scikit-learn computes in float64, so that rows near a
threshold take the other side: one of a thousand in a forest over columns whose mean is far from 0. Scalers keep the
order of numbers, so each threshold has its like before the scaler, to the last bit: the largest number that still goes
to the side of small values. It is one of float32, but for histogram gradient boosting and LightGBM over columns of
float64: their thresholds are rounded as the rows' numbers are. Where rows are float64, so are thresholds. It saves an
operator, too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler

from shokado.lifecycle.importing.float32_bounds import largest_left, largest_rank, nearest_left, numbers_of
from shokado.lifecycle.importing.graphs import set_thresholds, thresholds_of
from shokado.lifecycle.importing.own_models import own_model

SCALERS = (StandardScaler, MinMaxScaler, MaxAbsScaler, RobustScaler)


@dataclass(frozen=True, eq=False)
class _Scaler:
    """A scaler, and what it is given: see `unscale`."""

    scaler: Pipeline
    exact: NDArray[np.bool_]
    given: type[np.floating]
    rows: type[np.float32 | np.float64]

    def of(self, rows: NDArray[Any]) -> NDArray[Any]:
        names, rows = getattr(self.scaler, "feature_names_in_", None), rows.astype(self.given)
        return np.asarray(self.scaler.transform(rows if names is None else pd.DataFrame(rows, columns=list(names))))


def scaler_of(model: Any) -> Pipeline | None:
    """What comes before the last step of a pipeline, if that is nothing but scalers."""
    if not isinstance(model, Pipeline) or len(model.steps) < 2:
        return None
    steps = [step for _, step in model.steps[:-1]]
    known = all(isinstance(step, SCALERS) and not getattr(step, "clip", False) for step in steps)
    return model[:-1] if known else None


def unscale(
    graph: ModelProto,
    scaler: Pipeline,
    last: Any,
    exact: Sequence[bool],
    given: type[np.floating],
    rows: type[np.float32 | np.float64] = np.float32,
) -> bool:
    """Put the thresholds of the graph of `last` before the scaler, in place; False where it has more than trees.

    Args:
        exact: for each column whether float32 holds its numbers.
        given: what scikit-learn is given rows as.
        rows: what a server packs them as.
    """
    (source,) = graph.graph.input
    nodes = [node for node in graph.graph.node if source.name in node.input]
    if not nodes or not all(node.op_type.startswith("TreeEnsemble") for node in nodes):
        return False
    before = _Scaler(scaler, np.array(exact), given, rows)
    wide = _doubles_of(last) if rows is np.float32 else None
    for node in nodes:
        _unscale(node, before, thresholds_of(node) if rows is np.float64 else wide)
    return True


def _doubles_of(model: Any) -> NDArray[np.float64] | None:
    """The threshold of each node of trees that compare in float64."""
    own = own_model(model)
    if own is not None:
        return own.ensemble(()).bounds if own.compares_doubles else None
    wide = [tree.nodes["num_threshold"] for trees in getattr(model, "_predictors", ()) for tree in trees]
    return np.concatenate(wide) if wide else None


def _unscale(node: NodeProto, scaler: _Scaler, wide: NDArray[np.float64] | None) -> None:
    """`wide` are the thresholds of trees that compare in float64; the others make float32 of what the scaler gives."""
    attributes = {item.name: item for item in node.attribute}
    features = np.array(attributes["nodes_featureids"].ints)
    values = thresholds_of(node) if wide is None else wide
    splits = np.array([mode != b"LEAF" for mode in attributes["nodes_modes"].strings])
    by_column = [np.unique(values[splits & (features == at)]) for at in range(len(scaler.exact))]
    bounds = np.full((max(map(len, by_column)), len(by_column)), np.nan)
    for at, column in enumerate(by_column):
        bounds[: len(column), at] = column
    found = _largest_within(scaler, bounds, np.float32 if wide is None else np.float64)
    unscaled = values.copy()
    for at, column in enumerate(by_column):
        mine = splits & (features == at)
        unscaled[mine] = found[np.searchsorted(column, values[mine]), at]
    set_thresholds(node, np.where(splits, unscaled, 0))


def _largest_within(scaler: _Scaler, bounds: NDArray[np.float64], compared_as: Any) -> NDArray[Any]:
    """For each bound [N, columns] the largest number of a row that the scaler does not take beyond it.

    Where float64 is compared, and is what a column has, but not what rows have, it is the float32 next to the largest
    float64.
    """

    def is_within(numbers: NDArray[Any]) -> NDArray[np.bool_]:
        return np.asarray(scaler.of(numbers).astype(compared_as) <= bounds)

    with np.errstate(over="ignore", invalid="ignore"):
        start = np.full(bounds.shape, -largest_rank(scaler.rows))
        ranks = largest_left(is_within, start, scaler.rows)
        if scaler.rows is np.float32 and compared_as is np.float64 and not scaler.exact.all():
            ranks = np.where(scaler.exact, ranks, nearest_left(is_within, ranks))
    return numbers_of(ranks, scaler.rows)
