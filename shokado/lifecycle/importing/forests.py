"""Forests of classifiers: an ONNX graph goes in, and comes out averaging as scikit-learn does.

skl2onnx divides every leaf by the number of trees first, and ten times a twentieth is 0.50000006 in float32: in a grown
forest every tenth row or so is such a tie, and got the other label. Leaves that are added up before they are divided
give exactly 0.5, at the same speed.
"""

from typing import Any

import numpy as np
from onnx import ModelProto, helper
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier


def average(graph: ModelProto, model: Any) -> None:
    """Let the graph of a forest add up its leaves first, in place; any other model's graph stays as it is."""
    forest = getattr(model, "best_estimator_", model)
    forest = forest[-1] if hasattr(forest, "steps") else forest
    nodes = [node for node in graph.graph.node if node.op_type == "TreeEnsembleClassifier"]
    if not isinstance(forest, RandomForestClassifier | ExtraTreesClassifier) or len(nodes) != 1:
        return
    leaves = [np.flatnonzero(tree.tree_.children_left < 0) for tree in forest.estimators_]
    weights = [tree.tree_.value[at, 0] for tree, at in zip(forest.estimators_, leaves, strict=True)]
    classes = len(forest.classes_)
    (node,) = nodes
    averaged = helper.make_node(
        "TreeEnsembleRegressor",
        list(node.input),
        [node.output[1]],
        domain=node.domain,
        n_targets=classes,
        aggregate_function="AVERAGE",
        target_treeids=[tree for tree, at in enumerate(leaves) for _ in range(len(at) * classes)],
        target_nodeids=np.repeat(np.concatenate(leaves), classes).tolist(),
        target_ids=np.tile(np.arange(classes), sum(map(len, leaves))).tolist(),
        target_weights=np.concatenate(weights).ravel().tolist(),
    )
    averaged.attribute.extend(item for item in node.attribute if item.name.startswith("nodes_"))
    node.CopyFrom(averaged)
