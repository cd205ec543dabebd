"""Trees as boosting libraries have them: splits and leaves go in, nodes of ONNX that answer the same come out.

    `Ensemble` --thresholds in float32--> TreeEnsembleRegressor --margins--> link --> probabilities or a value

Leaves with lines in them are told in `linear_leaves`.

All nodes compare by `<=`, as ONNX Runtime is fastest where they compare alike. A split that is no single comparison,
such as "one of these categories", becomes a chain of them that lead to the same two subtrees. ONNX Runtime lets nodes
share what lies on their true side alone, so the last node of a chain has the other one to itself.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto

from shokado.lifecycle.importing.float32_bounds import nearest, rounded_down
from shokado.lifecycle.importing.graph_builder import Builder, Nodes
from shokado.lifecycle.importing.graphs import INPUT
from shokado.lifecycle.importing.linear_leaves import Lines, add_lines
from shokado.lifecycle.importing.links import Link

_NODE = ("treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids")
_MISSING = "missing_value_tracks_true"
_OPERATORS = {Link.EXP: "Exp", Link.SIGMOID: "Sigmoid", Link.SOFTMAX: "Softmax", Link.SOFTPLUS: "Softplus"}


@dataclass(frozen=True)
class TreeSplit:
    """To which side a row goes by its value of one column."""

    column: int
    bounds: tuple[tuple[float, bool], ...]
    """Ascending numbers, each with whether values up to it, and above the one before it, go left; at least one."""
    beyond: bool
    """Whether values above all of them go left."""
    missing: bool
    """Whether a row without a value goes left."""

    def goes_left(self, value: float) -> bool:
        if np.isnan(value):
            return self.missing
        return next((left for bound, left in self.bounds if value <= bound), self.beyond)


@dataclass(frozen=True, eq=False)
class Tree:
    """Splits and leaves; the first split is the root."""

    splits: Sequence[TreeSplit]
    left: Sequence[int]
    """Where each split's left side leads: to another split's position, or to -1 - a leaf's position."""
    right: Sequence[int]
    leaves: NDArray[np.float64]
    """What each leaf adds to the margins: [leaves, targets]."""
    targets: tuple[int, ...]
    """Which of the margins these are."""
    lines: Lines | None = None
    """What leaves add where that is more than a number."""


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Trees whose leaves add up to a row's margins, one or one a class, and what is made of these."""

    trees: Sequence[Tree]
    base: NDArray[np.float64]
    """What margins begin with: [targets]."""
    link: Link

    @property
    def has_splits(self) -> bool:
        return any(tree.splits for tree in self.trees)

    @property
    def has_lines(self) -> bool:
        return any(tree.lines is not None for tree in self.trees)

    @property
    def bounds(self) -> NDArray[np.float64]:
        """The number of each node of ONNX, before it is rounded; that of a leaf is 0."""
        return np.array([node[3] for node in self._nodes()], dtype=np.float64)

    def attributes(self, exact: Sequence[bool]) -> dict[str, Any]:
        """Those of a TreeEnsembleRegressor.

        Leaves lie around their tree's middle, and all middles are in the base: so sums are rounded as the small
        numbers that they are.

        Args:
            exact: the columns whose numbers float32 holds as they come; a column beyond them is not. There a threshold
                is rounded down, which is exact; elsewhere to the nearest float32, as the numbers are (decision 31).
        """
        columns = list(zip(*self._nodes(), strict=True))
        features = np.array(columns[2])
        is_exact = np.array([*exact, *[False] * (int(features.max()) + 1)])[features]
        values = _rounded(np.array(columns[3], dtype=np.float64), is_exact)
        found: dict[str, Any] = {f"nodes_{name}": list(values) for name, values in zip(_NODE, columns, strict=False)}
        found["nodes_values"] = values.tolist()
        if any(columns[7]):
            found[f"nodes_{_MISSING}"] = list(columns[7])
        return found | self._leaves()

    def _nodes(self) -> Iterator[tuple[int, int, int, float, str, int, int, int]]:
        for number, tree in enumerate(tree for tree in self.trees if tree.splits):
            yield from _nodes_of(number, tree)

    def _leaves(self) -> dict[str, Any]:
        base = self.base.astype(np.float64)
        trees, nodes, targets, weights = [], [], [], []
        number = 0
        for tree in self.trees:
            at = list(tree.targets)
            middle = (tree.leaves.min(axis=0) + tree.leaves.max(axis=0)) / 2
            base[at] += middle
            if not tree.splits:
                continue
            first = sum(len(split.bounds) for split in tree.splits)
            trees += [number] * tree.leaves.size
            nodes += np.repeat(np.arange(len(tree.leaves)) + first, len(at)).tolist()
            targets += at * len(tree.leaves)
            weights += (tree.leaves - middle).astype(np.float32).ravel().tolist()
            number += 1
        # ONNX Runtime leaves out the base of a margin that no leaf adds to.
        of_first = sorted({node for tree, node in zip(trees, nodes, strict=True) if tree == 0})
        for target in set(range(len(base))) - set(targets):
            trees += [0] * len(of_first)
            nodes += of_first
            targets += [target] * len(of_first)
            weights += [0.0] * len(of_first)
        return {
            "target_treeids": trees,
            "target_nodeids": nodes,
            "target_ids": targets,
            "target_weights": weights,
            "base_values": base.astype(np.float32).tolist(),
            "n_targets": len(base),
            "post_transform": "NONE",
        }


def _nodes_of(number: int, tree: Tree) -> Iterator[tuple[int, int, int, float, str, int, int, int]]:
    """The nodes of one tree: those of its splits, one for each bound, and behind them its leaves."""
    starts = np.cumsum([0, *(len(split.bounds) for split in tree.splits)]).tolist()
    first_leaf = starts[-1]

    def node_of(child: int) -> int:
        return int(starts[child]) if child >= 0 else int(first_leaf) - child - 1

    for split, start, left, right in zip(tree.splits, starts, tree.left, tree.right, strict=False):
        ways = {True: node_of(left), False: node_of(right)}
        # NaN is within no bound.
        sides = [side for _, side in split.bounds]
        tracked = None if split.missing == split.beyond else sides.index(split.missing)
        for position, (bound, side) in enumerate(split.bounds):
            is_last = position == len(sides) - 1
            otherwise = ways[split.beyond] if is_last else start + position + 1
            tracks = int(position == tracked)
            yield number, start + position, split.column, bound, "BRANCH_LEQ", ways[side], otherwise, tracks
    for leaf in range(len(tree.leaves)):
        yield number, first_leaf + leaf, 0, 0.0, "LEAF", 0, 0, 0


def _rounded(values: NDArray[np.float64], is_exact: NDArray[np.bool_]) -> NDArray[np.float32]:
    with np.errstate(over="ignore", invalid="ignore"):
        return np.where(is_exact, rounded_down(values), nearest(values))


def add_answer(builder: Nodes, ensemble: Ensemble, rows: str, exact: Sequence[bool], *, is_pair: bool) -> str:
    """Add nodes that answer for rows, and give their output's name.

    Args:
        exact: see `Ensemble.attributes`.
        is_pair: whether the one margin is that of a second class, and probabilities of both are wanted.
    """
    margins = _margins(builder, ensemble, rows, exact)
    if is_pair:
        margins = builder.add("Mul", [margins, builder.constant(np.array([[-1, 1]], dtype=np.float32))])
    if ensemble.link is Link.MEAN_AND_VARIANCE:
        mean, deviation = (builder.add("Gather", [margins, builder.constant(np.array([at]))], axis=1) for at in (0, 1))
        variance = builder.add("Exp", [builder.add("Add", [deviation, deviation])])
        return builder.add("Concat", [mean, variance], axis=1)
    if ensemble.link is Link.SIGNED_SQUARE:
        return builder.add("Mul", [margins, builder.add("Abs", [margins])])
    return margins if ensemble.link is Link.IDENTITY else builder.add(_OPERATORS[ensemble.link], [margins])


def _margins(builder: Nodes, ensemble: Ensemble, rows: str, exact: Sequence[bool]) -> str:
    if not ensemble.has_lines:
        return builder.add("TreeEnsembleRegressor", [rows], domain="ai.onnx.ml", **ensemble.attributes(exact))
    numbered = [
        replace(tree, leaves=np.arange(len(tree.leaves), dtype=np.float64).reshape(-1, 1), targets=(number,))
        for number, tree in enumerate(ensemble.trees)
    ]
    which = Ensemble(numbered, np.zeros(len(numbered)), Link.IDENTITY)
    leaves = builder.add("TreeEnsembleRegressor", [rows], domain="ai.onnx.ml", **which.attributes(exact))
    lines = [tree.lines for tree in ensemble.trees if tree.lines is not None]
    targets = [tree.targets[0] for tree in ensemble.trees]
    return add_lines(builder, lines, targets, rows, builder.add("Cast", [leaves], to=TensorProto.INT64))


def graph_of(ensemble: Ensemble, columns: int, exact: Sequence[bool], *, is_pair: bool) -> ModelProto:
    """The graph of an ensemble alone; see `add_answer`."""
    builder = Builder(columns)
    return builder.model(add_answer(builder, ensemble, INPUT, exact, is_pair=is_pair))
