"""Histogram gradient boosting: its nodes get from skl2onnx what the newest, 1.20, leaves out or rounds otherwise.

skl2onnx gives protobuf a boolean for a whole number, which protobuf 7 refuses, and rounds thresholds to the nearest
float32. The trees compare in float64, and with more than 255 different values in a column a threshold may be a value
itself. Which float32 keeps a row that lies on a threshold on its side depends on what the column has. Where rows are
float64, thresholds are theirs as they are.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from skl2onnx.common import tree_ensemble

from shokado.lifecycle.importing.float32_bounds import nearest
from shokado.lifecycle.importing.graphs import THRESHOLDS

_add_node = tree_ensemble.add_node


@contextmanager
def exact_nodes(exact: Sequence[bool]) -> Iterator[None]:
    """While it lasts, thresholds are rounded as their columns need it; no more than one thread converts at a time.

    Args:
        exact: the columns whose numbers float32 holds as they come; a column beyond them is not.
    """

    def add_node(*node: Any, **arguments: Any) -> None:
        *tree, feature, mode, value = node[:8]
        tracks = arguments.pop("nodes_missing_value_tracks_true", None)
        if tracks is not None and mode != "LEAF" and not (feature < len(exact) and exact[feature]):
            value = float(nearest(np.array(value, dtype=np.float64)))
        given = {"adjust_threshold_for_sklearn": True, "nodes_missing_value_tracks_true": int(tracks or 0)}
        _add_node(*tree, feature, mode, value, *node[8:], **arguments | given)

    tree_ensemble.add_node = add_node
    try:
        yield
    finally:
        tree_ensemble.add_node = _add_node


@contextmanager
def wide_nodes() -> Iterator[list[float]]:
    """While it lasts, nodes compare in float64; what comes is the list to which their thresholds are added as well."""
    thresholds: list[float] = []

    def add_node(*node: Any, **arguments: Any) -> None:
        # Other trees make float32 of their rows, for which skl2onnx finds the threshold in float64.
        tracks = arguments.pop("nodes_missing_value_tracks_true", None)
        given = {"adjust_threshold_for_sklearn": tracks is None, "dtype": np.float64}
        _add_node(*node, **arguments | given, nodes_missing_value_tracks_true=int(tracks or 0))
        thresholds.append(float(node[0][THRESHOLDS][-1]))

    tree_ensemble.add_node = add_node
    try:
        yield thresholds
    finally:
        tree_ensemble.add_node = _add_node
