"""XGBoost's trees of several values, or labels, a row: a Booster goes in, an ONNX graph of its margins comes out.

onnxmltools converts trees of one value alone. Here a tree is of one of the values (`one_output_per_tree`), or each of
its leaves has all of them (`multi_output_tree`).
"""

import json
from collections import defaultdict
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto
from xgboost import Booster

from shokado.lifecycle.importing.graph_builder import Builder
from shokado.lifecycle.importing.graphs import INPUT


def graph_of_values(booster: Booster, columns: int, intercepts: NDArray[np.float32]) -> ModelProto:
    """A graph of so many columns, whose output are the sums of leaves and intercepts: float32 [N, values]."""
    model = json.loads(booster.save_raw("json"))["learner"]["gradient_booster"]["model"]
    attributes: defaultdict[str, Any] = defaultdict(list)
    for number, (tree, value) in enumerate(zip(model["trees"], model["tree_info"], strict=True)):
        _add_tree(attributes, number, tree, value, len(intercepts))
    builder = Builder(columns)
    margins = builder.add(
        "TreeEnsembleRegressor",
        [INPUT],
        domain="ai.onnx.ml",
        n_targets=len(intercepts),
        base_values=intercepts.tolist(),
        **attributes,
    )
    return builder.model(margins)


def _add_tree(attributes: defaultdict[str, Any], number: int, tree: dict[str, Any], value: int, values: int) -> None:
    """A tree of that value, unless its leaves have all of them."""
    left, right, conditions = tree["left_children"], tree["right_children"], tree["split_conditions"]
    waiting = [0]
    while waiting:  # what was pruned is there still, and no part of the tree
        at = waiting.pop()
        is_leaf = left[at] < 0
        attributes["nodes_treeids"].append(number)
        attributes["nodes_nodeids"].append(at)
        attributes["nodes_modes"].append("LEAF" if is_leaf else "BRANCH_LT")
        attributes["nodes_featureids"].append(0 if is_leaf else tree["split_indices"][at])
        attributes["nodes_values"].append(0.0 if is_leaf else conditions[at])
        attributes["nodes_truenodeids"].append(0 if is_leaf else left[at])
        attributes["nodes_falsenodeids"].append(0 if is_leaf else right[at])
        attributes["nodes_missing_value_tracks_true"].append(0 if is_leaf else int(tree["default_left"][at]))
        if not is_leaf:
            waiting += [right[at], left[at]]
            continue
        weights = {value: conditions[at]}
        if "leaf_weights" in tree:  # the right child of a leaf is its number among the leaves
            start = right[at] * values
            weights = dict(enumerate(tree["leaf_weights"][start : start + values]))
        for target, weight in weights.items():
            attributes["target_treeids"].append(number)
            attributes["target_nodeids"].append(at)
            attributes["target_ids"].append(target)
            attributes["target_weights"].append(weight)
