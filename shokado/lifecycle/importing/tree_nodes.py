"""Nodes of trees: those of any trees in arrays, and the ONNX nodes that score as they do.

Decision trees, forests, gradient boosting of both kinds and XGBoost come in. Thresholds stay as the framework has them,
float64, until somebody knows what they are compared with.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto
from sklearn.base import is_classifier
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor, ExtraTreeClassifier, ExtraTreeRegressor

from shokado.lifecycle.importing import booster_graphs, boosters
from shokado.lifecycle.importing.graph_builder import Builder
from shokado.lifecycle.importing.links import Link
from shokado.lifecycle.importing.multilabel import second_of_each

TREES = (DecisionTreeClassifier, DecisionTreeRegressor, ExtraTreeClassifier, ExtraTreeRegressor)
FORESTS = (ExtraTreesClassifier, ExtraTreesRegressor, RandomForestClassifier, RandomForestRegressor)
BOOSTED = (GradientBoostingClassifier, GradientBoostingRegressor)
_HISTOGRAMS = (HistGradientBoostingClassifier, HistGradientBoostingRegressor)
_MAX_CATEGORIES = 256
"""Histogram gradient boosting has bits for so many."""


@dataclass(frozen=True, eq=False)
class TreeNodes:
    """The nodes of all trees, one array an attribute: [nodes]."""

    trees: NDArray[np.int64]
    ids: NDArray[np.int64]
    """The number of each node in its tree, by which its parent knows it; 0 is the root's."""
    features: NDArray[np.int64]
    thresholds: NDArray[np.float64]
    left: NDArray[np.int64]
    """The node that small values, or those of `sets`, go to; -1 of a leaf."""
    right: NDArray[np.int64]
    missing_left: NDArray[np.bool_]
    values: NDArray[np.float64]
    """What leaves add to each target: [nodes, targets]."""
    is_set: NDArray[np.bool_]
    """Whether a node asks for a category."""
    sets: NDArray[np.bool_] | None = None
    """The categories that go left there: [nodes, 256]."""

    @property
    def splits(self) -> NDArray[np.bool_]:
        return np.asarray(self.left >= 0)


@dataclass(frozen=True, eq=False)
class TreeEnsemble:
    nodes: TreeNodes
    base: NDArray[np.float64]
    """What is added to the leaves of each target."""
    is_average: bool = False
    link: Link = Link.IDENTITY
    factor: float = 1.0
    """By which a margin is multiplied before its link."""
    compared_as: type[np.float32 | np.float64] = np.float32
    """What the framework makes of a row's numbers before it compares them."""
    is_strict: bool = False
    """Whether a number on a threshold goes right."""
    known: NDArray[np.bool_] | None = None
    """The categories that each feature had in the training: [features, 256]."""


def ensemble_of(model: Any) -> TreeEnsemble | None:
    """The trees of a fitted model; None where it has none, or more than trees."""
    if boosters.is_xgboost(model):
        return _of_xgboost(model)
    if type(model) in _HISTOGRAMS:
        return _of_histograms(model)
    if type(model) in TREES + FORESTS:
        is_average = type(model) in FORESTS
        trees = [tree.tree_ for tree in model.estimators_] if is_average else [model.tree_]
        nodes = _nodes_of(trees, lambda tree, _: _leaves_of(model, tree))
        return TreeEnsemble(nodes, np.zeros(nodes.values.shape[1]), is_average)
    return _of_boosting(model) if type(model) in BOOSTED else None


def _leaves_of(model: Any, tree: Any) -> NDArray[np.float64]:
    """The values of each leaf, its share of each class, or of several labels that of the second class of each."""
    values = np.asarray(tree.value, dtype=np.float64)
    if model.n_outputs_ == 1:
        return values[:, 0]
    return second_of_each([*values.swapaxes(0, 1)], model.classes_) if is_classifier(model) else values[:, :, 0]


def _nodes_of(trees: Sequence[Any], values: Callable[[Any, int], NDArray[np.float64]]) -> TreeNodes:
    def joined(attribute: Callable[[Any], Any]) -> NDArray[Any]:
        return np.concatenate([np.asarray(attribute(tree)) for tree in trees])

    return TreeNodes(
        trees=np.repeat(np.arange(len(trees)), [tree.node_count for tree in trees]),
        ids=joined(lambda tree: np.arange(tree.node_count)),
        features=joined(lambda tree: tree.feature).astype(np.int64),
        thresholds=joined(lambda tree: tree.threshold).astype(np.float64),
        left=joined(lambda tree: tree.children_left).astype(np.int64),
        right=joined(lambda tree: tree.children_right).astype(np.int64),
        missing_left=joined(lambda tree: tree.missing_go_to_left).astype(bool),
        values=np.concatenate([values(tree, at) for at, tree in enumerate(trees)]),
        is_set=np.zeros(sum(tree.node_count for tree in trees), dtype=bool),
    )


def _of_boosting(model: Any) -> TreeEnsemble | None:
    targets = model.estimators_.shape[1]
    if isinstance(model.init_, str):
        base = np.zeros(targets)
    elif isinstance(model.init_, DummyClassifier | DummyRegressor):
        base = model._raw_predict_init(np.zeros((1, model.n_features_in_), dtype=np.float32))[0]
    else:
        return None

    def values(tree: Any, at: int) -> NDArray[np.float64]:
        found = np.zeros((tree.node_count, targets))
        found[:, at % targets] = tree.value[:, 0, 0] * model.learning_rate
        return found

    nodes = _nodes_of([tree.tree_ for tree in model.estimators_.ravel()], values)
    if isinstance(model, GradientBoostingRegressor):
        return TreeEnsemble(nodes, base)
    link = Link.SOFTMAX if targets > 1 else Link.SIGMOID
    return TreeEnsemble(nodes, base, link=link, factor=2.0 if model.loss == "exponential" else 1.0)


def _of_histograms(model: Any) -> TreeEnsemble:
    trees = [(tree, target) for trees in model._predictors for target, tree in enumerate(trees)]
    targets = model.n_trees_per_iteration_
    nodes = np.concatenate([tree.nodes for tree, _ in trees])
    counts = [len(tree.nodes) for tree, _ in trees]
    values = np.zeros((len(nodes), targets))
    values[np.arange(len(nodes)), np.repeat([target for _, target in trees], counts)] = nodes["value"]
    is_leaf = nodes["is_leaf"].astype(bool)
    is_set = nodes["is_categorical"].astype(bool) & ~is_leaf
    sets = known = None
    if is_set.any():
        sets = np.zeros((len(nodes), _MAX_CATEGORIES), dtype=bool)
        offsets = np.cumsum([0, *(len(tree.raw_left_cat_bitsets) for tree, _ in trees)])[:-1]
        at = nodes["bitset_idx"].astype(np.int64) + np.repeat(offsets, counts)
        sets[is_set] = _bits(np.concatenate([tree.raw_left_cat_bitsets for tree, _ in trees]))[at[is_set]]
        bitsets, slots = model._bin_mapper.make_known_categories_bitsets()
        known = _bits(bitsets)[slots]
    return TreeEnsemble(
        TreeNodes(
            trees=np.repeat(np.arange(len(trees)), counts),
            ids=np.concatenate([np.arange(count) for count in counts]),
            features=nodes["feature_idx"].astype(np.int64),
            thresholds=nodes["num_threshold"].astype(np.float64),
            left=np.where(is_leaf, -1, nodes["left"].astype(np.int64)),
            right=np.where(is_leaf, -1, nodes["right"].astype(np.int64)),
            missing_left=nodes["missing_go_to_left"].astype(bool),
            values=values,
            is_set=is_set,
            sets=sets,
        ),
        base=np.asarray(model._baseline_prediction, dtype=np.float64).ravel(),
        link=_link_of(model, targets),
        compared_as=np.float64,
        known=known,
    )


def _link_of(model: Any, targets: int) -> Link:
    if isinstance(model, HistGradientBoostingClassifier):
        return Link.SOFTMAX if targets > 1 else Link.SIGMOID
    return Link.EXP if type(model._loss.link).__name__ == "LogLink" else Link.IDENTITY


def _bits(words: NDArray[np.uint32]) -> NDArray[np.bool_]:
    """Sets of categories, [N, 8] of 32 bits each, as truth values [N, 256]."""
    shifted = words[:, :, None] >> np.arange(32, dtype=np.uint32)
    return np.asarray((shifted & 1).astype(bool).reshape(len(words), -1))


def _of_xgboost(model: Any) -> TreeEnsemble | None:
    booster = booster_graphs.plain_booster(model)
    learner = json.loads(booster.save_raw("json"))["learner"]
    if "model" not in learner["gradient_booster"] or "trees" not in learner["gradient_booster"]["model"]:
        return None
    trees = learner["gradient_booster"]["model"]["trees"]
    targets = learner["gradient_booster"]["model"]["tree_info"]
    base = np.asarray(booster_graphs.intercepts_of(booster), dtype=np.float64)
    counts = [len(tree["left_children"]) for tree in trees]

    def joined(name: str, dtype: Any) -> NDArray[Any]:
        return np.concatenate([np.asarray(tree[name], dtype=dtype) for tree in trees])

    left, conditions = joined("left_children", np.int64), joined("split_conditions", np.float32).astype(np.float64)
    values = np.zeros((len(left), len(base)))
    if "leaf_weights" in trees[0]:  # the right child of a leaf is its number among the leaves
        numbers = [np.asarray(tree["right_children"])[np.asarray(tree["left_children"]) < 0] for tree in trees]
        weights = [np.asarray(tree["leaf_weights"], dtype=np.float32).reshape(-1, len(base)) for tree in trees]
        values[left < 0] = np.concatenate([of_leaf[at] for of_leaf, at in zip(weights, numbers, strict=True)])
    else:
        values[np.arange(len(left)), np.repeat(targets, counts)] = np.where(left < 0, conditions, 0)
    nodes = TreeNodes(
        trees=np.repeat(np.arange(len(trees)), counts),
        ids=np.concatenate([np.arange(count) for count in counts]),
        features=joined("split_indices", np.int64),
        thresholds=conditions,
        left=left,
        right=joined("right_children", np.int64),
        missing_left=joined("default_left", bool),
        values=values,
        is_set=np.zeros(len(left), dtype=bool),
    )
    return TreeEnsemble(nodes, base, link=boosters.link_of(booster), is_strict=True)


def margins(builder: Builder, ensemble: TreeEnsemble, source: str) -> str:
    """The sum or average of each row's leaves, [N, targets], of a tensor [N, features] of float32.

    Thresholds must be float32.
    """
    mode = "BRANCH_LT" if ensemble.is_strict else "BRANCH_LEQ"
    nodes, splits = ensemble.nodes, ensemble.nodes.splits
    leaves = np.flatnonzero(~splits)
    # A leaf must have a weight, if only 0 for the first target.
    weighed = nodes.values[leaves] != 0
    weighed[~weighed.any(axis=1), 0] = True
    at, targets = np.nonzero(weighed)
    return builder.add(
        "TreeEnsembleRegressor",
        [source],
        domain="ai.onnx.ml",
        n_targets=len(ensemble.base),
        aggregate_function="AVERAGE" if ensemble.is_average else "SUM",
        base_values=ensemble.base.astype(np.float32).tolist(),
        nodes_treeids=nodes.trees.tolist(),
        nodes_nodeids=nodes.ids.tolist(),
        nodes_featureids=np.where(splits, nodes.features, 0).tolist(),
        nodes_modes=[mode if split else "LEAF" for split in splits.tolist()],
        nodes_values=np.where(splits, nodes.thresholds, 0).astype(np.float32).tolist(),
        nodes_truenodeids=np.where(splits, nodes.left, 0).tolist(),
        nodes_falsenodeids=np.where(splits, nodes.right, 0).tolist(),
        nodes_missing_value_tracks_true=(nodes.missing_left & splits).astype(int).tolist(),
        target_treeids=nodes.trees[leaves][at].tolist(),
        target_nodeids=nodes.ids[leaves][at].tolist(),
        target_ids=targets.tolist(),
        target_weights=nodes.values[leaves][at, targets].astype(np.float32).tolist(),
    )


def linked(builder: Builder, ensemble: TreeEnsemble, margin: str, *, is_binary: bool) -> str:
    """What the link makes of margins: probabilities [N, classes] of a classifier, [N, 1] of a regression."""
    if ensemble.factor != 1:
        margin = builder.add("Mul", [margin, builder.constant(np.array(ensemble.factor, dtype=np.float32))])
    match ensemble.link:
        case Link.IDENTITY:
            return margin
        case Link.SOFTMAX:
            return builder.add("Softmax", [margin], axis=1)
        case Link.EXP:
            return builder.add("Exp", [margin])
        case Link.STEP:
            above = builder.add("Greater", [margin, builder.constant(np.zeros(1, dtype=np.float32))])
            positive = builder.add("Cast", [above], to=TensorProto.FLOAT)
        case Link.SIGMOID:
            positive = builder.add("Sigmoid", [margin])
    return builder.with_counterpart(positive) if is_binary else positive


def with_nodes(ensemble: TreeEnsemble, **changes: Any) -> TreeEnsemble:
    """The ensemble with other arrays of its nodes."""
    return replace(ensemble, nodes=replace(ensemble.nodes, **changes))
