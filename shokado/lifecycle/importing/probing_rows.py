"""Rows to verify a model of unknown origin on: both sides of its trees' thresholds, and the range it is known for.

The model's ONNX graph, its example and what a scaler remembers go in; float64 rows come out, whole numbers where the
column has them. A seed makes them the same every time.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper
from sklearn.multioutput import MultiOutputRegressor

from runners.inputs.precision import FLOAT32
from shokado.lifecycle.importing.graphs import ROUNDED, thresholds_of
from shokado.lifecycle.importing.leaves import CHAINS, members_of, within
from shokado.lifecycle.importing.scaled_trees import scaler_of

MAX_NODES = 1200
"""How many of a model's thresholds are tried: all of a small model's, and of a large one's a share of every tree's."""
MAX_DIGITS = 3
"""Digits behind the point that a decimal may have to count as short."""
DECIMAL_SHARE = 0.2
MAX_STEP_DIGITS = 3
"""Whole steps from a large number are up to a thousand, or some."""
_HALVINGS = 32
"""How often a range is halved, until what becomes one float32 is two float64 beside each other."""
_SENTINEL_SHARE = 0.1
"""Part of the values that mean a missing one, where the model knows such a number."""
_CONTAINERS = ("steps", "transformers_", "transformer_list")

Rows = NDArray[np.float64]
Scores = Callable[[Rows], NDArray[np.float64]]
"""The framework's own scores of rows: [N, classes], or [N, 1]."""


@dataclass(frozen=True, eq=False)
class Columns:
    """What is known of each column: arrays of shape [features]; NaN where a bound is not known."""

    low: Rows
    high: Rows
    whole: NDArray[np.bool_]
    exact: NDArray[np.bool_]
    """Whether rows hold the column's numbers as they come."""
    is_wide: bool = False
    """Whether rows are float64."""

    def widened(self, rows: Rows) -> "Columns":
        """The ranges with those of further rows [N, features], of which there may be none; NaN says nothing."""
        if not len(rows):
            return self
        low, high = np.fmin.reduce(rows, axis=0), np.fmax.reduce(rows, axis=0)
        return replace(self, low=np.fmin(self.low, low), high=np.fmax(self.high, high))


@dataclass(frozen=True, eq=False)
class Trees:
    """The nodes of all trees that look at the input itself, one array an attribute; parents are positions in them."""

    features: NDArray[np.int64]
    values: Rows
    splits: NDArray[np.bool_]
    parents: NDArray[np.int64]
    """The parent of each node; -1 for a root."""
    below: NDArray[np.bool_]
    """Whether the node is on its parent's side of small values."""
    strict: NDArray[np.bool_]
    """Whether a number on the threshold goes to the side of large ones."""


def trees_of(graph: ModelProto) -> Trees | None:
    """The trees of a graph whose thresholds can be compared with the input; None: it has none."""
    inputs = _same_as_input(graph)
    found = [node for node in graph.graph.node if node.op_type.startswith("TreeEnsemble") and node.input[0] in inputs]
    parts = [_nodes_of(node) for node in found]
    if not parts:
        return None
    width = graph.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    # Behind the columns may be tables, whose values nobody gives; a split on what is missing has no threshold.
    given = [(part.features < width) & (np.abs(part.values) < FLOAT32.largest) for part in parts]
    parts = [replace(part, splits=part.splits & are_given) for part, are_given in zip(parts, given, strict=True)]
    offsets = np.cumsum([0, *(len(part.values) for part in parts)])
    parents = [np.where(part.parents < 0, -1, part.parents + at) for part, at in zip(parts, offsets, strict=False)]
    return Trees(
        features=np.concatenate([part.features for part in parts]),
        values=np.concatenate([part.values for part in parts]),
        splits=np.concatenate([part.splits for part in parts]),
        parents=np.concatenate(parents),
        below=np.concatenate([part.below for part in parts]),
        strict=np.concatenate([part.strict for part in parts]),
    )


def _same_as_input(graph: ModelProto) -> set[str]:
    """The tensors whose first columns are those of the input."""
    names = {item.name for item in graph.graph.input} | {ROUNDED}
    for node in graph.graph.node:
        if node.op_type in ("Identity", "Cast", "Concat") and node.input[0] in names:
            names.update(node.output)
    return names


def _nodes_of(node: NodeProto) -> Trees:
    attributes = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    ids = list(zip(attributes["nodes_treeids"], attributes["nodes_nodeids"], strict=True))
    index_of = {key: index for index, key in enumerate(ids)}
    splits = np.array([mode != b"LEAF" for mode in attributes["nodes_modes"]], dtype=bool)
    parents, below = np.full(len(ids), -1), np.zeros(len(ids), dtype=bool)
    for index in np.flatnonzero(splits):
        tree = ids[index][0]
        small, large = (index_of[tree, attributes[side][index]] for side in ("nodes_truenodeids", "nodes_falsenodeids"))
        parents[[small, large]] = index
        below[small] = True
    return Trees(
        np.array(attributes["nodes_featureids"], dtype=np.int64),
        thresholds_of(node),
        splits,
        parents,
        below,
        np.array([mode == b"BRANCH_LT" for mode in attributes["nodes_modes"]], dtype=bool),
    )


def probing_rows(
    columns: Columns, trees: Trees | None, scores: Scores | None, sentinels: Sequence[float], count: int, seed: int
) -> Rows:
    """`count` rows over the columns' range, and rows that lead to thresholds and lie on both sides of them.

    A range that nobody knows is a wide one, with numbers of all sizes. `sentinels` are numbers that mean a missing
    value to the model: a part of the cells has them. `scores` are asked for thresholds that are not float32, where the
    framework may have those.
    """
    random = np.random.default_rng(seed)
    if trees is not None:
        columns = columns.widened(_bounds(trees, len(columns.low)))
    rows = [_drawn(random, columns, count)]
    if trees is not None and scores is not None:
        rows = [_clear(rows[0], columns, trees)]
    if trees is not None and trees.splits.any():
        rows.append(_at_thresholds(random, columns, trees, scores))
    drawn = np.vstack(rows)
    for sentinel in sentinels:
        drawn[random.random(drawn.shape) < _SENTINEL_SHARE] = sentinel
    return drawn


def _bounds(trees: Trees, width: int) -> Rows:
    """The smallest and the largest threshold of each column: [2, features], NaN where there are none."""
    bounds = np.full((2, width), np.nan)
    # A split on what is missing alone has an infinite one, or the largest number that there is.
    bounded = trees.splits & (np.abs(trees.values) < FLOAT32.largest)
    features, values = trees.features[bounded], trees.values[bounded]
    for column in np.unique(features):
        bounds[:, column] = values[features == column].min(), values[features == column].max()
    return bounds


def _drawn(random: np.random.Generator, columns: Columns, count: int) -> Rows:
    """Rows over the known range, widened by half on both sides; over a wide one where none is known."""
    shape = (count, len(columns.low))
    low, high = np.nan_to_num(columns.low), np.nan_to_num(columns.high)
    margin = (high - low) / 2
    known = random.uniform(low - margin, high + margin, shape)
    size = np.maximum(np.abs(low), 1) * 10 ** random.uniform(-2, 2, shape)
    drawn = np.where(high > low, known, low + random.normal(0, 1, shape) * size)
    return np.where(columns.whole, np.rint(drawn), drawn)


def rows_near(columns: Columns, row: Rows, count: int, seed: int) -> Rows:
    """Rows [count, features] a few whole steps from one row's large numbers, as time stamps are from each other.

    None where the range of all columns of large numbers is known.
    """
    known = columns.high > columns.low
    large = ~known & (np.abs(row) >= FLOAT32.whole)
    if not large.any():
        return np.empty((0, len(row)))
    random = np.random.default_rng(seed)
    shape = (count, len(row))
    size = np.where(large, 10 ** random.uniform(0, MAX_STEP_DIGITS, shape), np.maximum(np.abs(row), 1))
    steps = random.normal(0, 1, shape) * size
    steps = np.where(columns.whole | large, np.rint(steps), steps)
    return np.where(known, _drawn(random, columns, count), row + steps)


def _at_thresholds(random: np.random.Generator, columns: Columns, trees: Trees, scores: Scores | None) -> Rows:
    """Rows that reach each of the chosen splits and lie as near to its threshold, on both sides, as can be."""
    splits = np.flatnonzero(trees.splits)
    nodes = splits if len(splits) <= MAX_NODES else np.sort(random.choice(splits, MAX_NODES, replace=False))
    reaching = _reaching(random, columns, trees, nodes)
    if scores is not None:
        reaching = _clear(reaching, columns, trees)
    features, values = trees.features[nodes], trees.values[nodes]
    own, wide = values.copy(), ~columns.exact[features]
    if scores is not None:
        own[wide] = _own_thresholds(reaching[wide], features[wide], values[wide], trees.strict[nodes][wide], scores)
    sides = _sides(random, values, own, features, columns.whole)
    if columns.is_wide:
        sides += [np.nextafter(values, end) for end in (-np.inf, np.inf)]
    return np.vstack([_with(reaching, features, np.clip(side, -FLOAT32.largest, FLOAT32.largest)) for side in sides])


def _clear(rows: Rows, columns: Columns, trees: Trees) -> Rows:
    """The rows without what chance puts where float32 cannot tell a number from a threshold, and no data lie."""
    rows = rows.copy()
    for at in np.flatnonzero(~columns.exact):
        given = rows[:, at].astype(np.float32)
        close = np.isin(given, trees.values[trees.splits & (trees.features == at)].astype(np.float32))
        close &= np.abs(given) < FLOAT32.whole
        rows[close, at] = np.nextafter(given[close], np.float32(-np.inf))
    return rows


def _own_thresholds(
    rows: Rows, features: NDArray[np.int64], values: Rows, strict: NDArray[np.bool_], scores: Scores
) -> Rows:
    """The framework's own thresholds, in float64, among the numbers that become each of these ones in float32.

    It is the last number on the side of small values, or the first beyond it: one that lies on it. Rows [N, features]
    are those that reach it; where the framework tells none of those numbers from each other, nobody knows which of them
    it is, and the number before them is given.
    """
    if not len(rows):
        return values
    low, high = cell_of(values)
    split, last, first = _around_change(rows, features, low, high, scores, _HALVINGS)
    own = np.nextafter(values.astype(np.float32), np.float32(-np.inf)).astype(np.float64)
    own[split] = np.where(strict[split], first, last)
    return own


def rows_at_changes(rows: Rows, scores: Scores, count: int, seed: int) -> Rows:
    """Up to `count` of the rows, each with a number as near as can be, and from below, to where its score changes."""
    random = np.random.default_rng(seed)
    some, others = rows[random.integers(0, len(rows), (2, count))]
    features, at = random.integers(0, rows.shape[1], count), np.arange(count)
    low, high = np.sort([some[at, features], others[at, features]], axis=0)
    split, last, _ = _around_change(some, features, low, high, scores, 2 * _HALVINGS)
    return _with(some[split], features[split], last)


def _around_change(
    rows: Rows, features: NDArray[np.int64], low: Rows, high: Rows, scores: Scores, halvings: int
) -> tuple[NDArray[np.int64], Rows, Rows]:
    """Which rows score otherwise with a low number than with a high one; between which two numbers that changes."""
    below, above = (scores(_with(rows, features, end)) for end in (low, high))
    split = np.flatnonzero((below != above).any(axis=1))
    rows, features, below, above = rows[split], features[split], below[split], above[split]
    near, far = low[split], high[split]
    for _ in range(halvings if len(split) else 0):
        middle = near + (far - near) / 2
        found = scores(_with(rows, features, middle))
        is_below = np.abs(found - below).sum(axis=1) <= np.abs(found - above).sum(axis=1)
        near, far = np.where(is_below, middle, near), np.where(is_below, far, middle)
    return split, near, far


def cell_of(values: Rows) -> tuple[Rows, Rows]:
    """The smallest and the largest float64 that become each of these numbers of float32, but for those half-way."""
    numbers = values.astype(np.float32)
    below, above = (np.nextafter(numbers, np.float32(end)).astype(np.float64) for end in (-np.inf, np.inf))
    return np.nextafter((values + below) / 2, values), np.nextafter((values + above) / 2, values)


def _reaching(random: np.random.Generator, columns: Columns, trees: Trees, nodes: NDArray[np.int64]) -> Rows:
    """A row for each node that takes the way from the root to it, drawn from what is left of each column's range."""
    drawn = _drawn(random, columns, len(nodes))
    low, high = np.full(drawn.shape, -np.inf), np.full(drawn.shape, np.inf)
    at, index = nodes.copy(), np.arange(len(nodes))
    while len(index := index[trees.parents[at[index]] >= 0]):
        parents, below = trees.parents[at[index]], trees.below[at[index]]
        features, values, above = trees.features[parents], trees.values[parents], ~below & trees.splits[parents]
        below &= trees.splits[parents]
        down, up = index[below], index[above]
        high[down, features[below]] = np.minimum(high[down, features[below]], values[below])
        low[up, features[above]] = np.maximum(low[up, features[above]], values[above])
        at[index] = parents
    inside = (drawn > low) & (drawn < high)
    size = np.maximum(np.abs(np.where(np.isfinite(low), low, np.where(np.isfinite(high), high, 0))), 1)
    start = np.where(np.isfinite(low), low, np.where(np.isfinite(high), high - size, -size))
    stop = np.where(np.isfinite(high), high, start + size)
    between = start + (stop - start) * random.uniform(0.25, 0.75, drawn.shape)
    whole = np.rint(between)
    whole = np.where(whole > high, np.floor(high), np.where(whole <= low, np.floor(low) + 1, whole))
    return np.where(inside, drawn, np.where(columns.whole, whole, between))


def _sides(
    random: np.random.Generator, values: Rows, own: Rows, features: NDArray[np.int64], wholes: NDArray[np.bool_]
) -> list[Rows]:
    """The framework's own threshold and the float32 numbers beside it, or whole ones; beyond 2^24 any between.

    What float32 cannot tell from a threshold, and lies above it, is on the other side for the framework alone. Short
    decimals are tried in spite of that, as data have those.
    """
    near, whole = values.astype(np.float32), wholes[features]
    below, above = (np.nextafter(near, np.float32(end)).astype(np.float64) for end in (-np.inf, np.inf))
    sides = [
        np.where(whole, np.floor(values), own),
        np.where(whole, np.ceil(values) - 1, below),
        np.where(whole, np.floor(values) + 1, above),
        np.where(whole, values, _as_decimal(values, own, features, (above - below) / 2)),
    ]
    if (large := np.abs(values) >= FLOAT32.whole).any():
        for _ in range(4):
            between = values + (above - below) * random.uniform(-0.5, 0.5, len(values))
            sides.append(np.where(large, np.where(whole, np.rint(between), between), own))
    return sides


def _as_decimal(values: Rows, own: Rows, features: NDArray[np.int64], within: Rows) -> Rows:
    """The short decimal that float32 cannot tell from each number, such as 40.2, in columns that have those.

    Where there is none, `own`. A column has them where a fifth of its thresholds do, of which chance makes one in
    twenty at most.
    """
    found, is_decimal = own, np.zeros(len(own), dtype=bool)
    for digits in range(MAX_DIGITS, -1, -1):
        decimal = np.round(values, digits)
        near = (np.abs(decimal - values) <= within) & (within < 0.025 * 10.0**-digits)
        found, is_decimal = np.where(near, decimal, found), is_decimal | near
    for column in np.unique(features):
        mine = features == column
        if np.mean(is_decimal[mine]) < DECIMAL_SHARE:
            found = np.where(mine, own, found)
    return found


def rows_at(rows: Rows, marks: Sequence[tuple[int, float]], wholes: NDArray[np.bool_], seed: int) -> Rows:
    """Some of the rows, each with a number at one of the marks (column and number), or next to it in float32.

    `wholes` are the columns of whole numbers.
    """
    if not marks:
        return rows[:0]
    random = np.random.default_rng(seed)
    features = np.array([column for column, _ in marks])
    values, whole = np.array([value for _, value in marks]), wholes[features]
    near = values.astype(np.float32)
    below, above = (np.nextafter(near, np.float32(end)).astype(np.float64) for end in (-np.inf, np.inf))
    sides = [
        np.where(whole, np.floor(values), values),
        np.where(whole, np.ceil(values) - 1, below),
        np.where(whole, np.floor(values) + 1, above),
    ]
    some = rows[random.integers(0, len(rows), len(marks))]
    return np.vstack([_with(some, features, side) for side in sides])


def _with(rows: Rows, features: NDArray[np.int64], values: Rows) -> Rows:
    rows = rows.copy()
    rows[np.arange(len(rows)), features] = values
    return rows


def remembered(model: Any, width: int) -> Rows:
    """Rows at the ends of what a model's scaler remembers of its training data; of shape [0, width] if it has none."""
    if len(learned := learned_rows(model)):
        return np.vstack([learned.min(axis=0), learned.max(axis=0)])
    for part in parts_of(model):
        mean, scale = getattr(part, "mean_", None), getattr(part, "scale_", None)
        if hasattr(part, "data_min_") and np.size(part.data_min_) == width:
            return np.vstack([part.data_min_, part.data_max_]).astype(np.float64)
        if mean is not None and scale is not None and np.size(mean) == np.size(scale) == width:
            return np.vstack([mean - 3 * scale, mean + 3 * scale]).astype(np.float64)
    return np.empty((0, width))


def learned_rows(model: Any) -> Rows:
    """The training data [N, features] of a model of nearest neighbours, which has all of it; of [0, 0] for others."""
    scaler = scaler_of(model)
    last = model if scaler is None else model[-1]
    learned = getattr(last, "_fit_X", None)
    if not isinstance(learned, np.ndarray) or learned.ndim != 2:
        return np.empty((0, 0))
    if scaler is not None:
        learned = scaler.inverse_transform(learned)
        nearest = np.rint(learned)
        learned = np.where(np.isclose(learned, nearest, rtol=1e-9, atol=1e-9), nearest, learned)
    return np.asarray(learned, dtype=np.float64)


def rows_like(learned: Rows, count: int, seed: int) -> Rows:
    """Rows among the learned ones, `count` or fewer, and as many with each column's numbers dealt anew."""
    random = np.random.default_rng(seed)
    some = learned[random.permutation(len(learned))[:count]]
    dealt = random.permuted(learned[random.integers(0, len(learned), count)], axis=0)
    return np.vstack([some, dealt])


def sentinels_of(model: Any) -> tuple[float, ...]:
    """The numbers that mean a missing value to the model or a part of it, such as -999; NaN is none of them."""
    given = (getattr(part, name, None) for part in parts_of(model) for name in ("missing", "missing_values"))
    found = {float(value) for value in given if isinstance(value, int | float) and np.isfinite(value)}
    return tuple(sorted(found))


def _fitted(model: Any) -> list[Any]:
    """What a combination of models is made of; trees of a forest are none of its own."""
    last, each = getattr(model, "final_estimator_", None), []
    if isinstance(model, (MultiOutputRegressor, *CHAINS)):
        each = list(getattr(model, "estimators_", ()))
    return [*members_of(model), *each, *([] if last is None else [last])]


def parts_of(model: Any) -> list[Any]:
    """The model and all that it is made of, steps and branches."""
    parts = [model]
    for name in _CONTAINERS:
        for _, part, *_ in getattr(model, name, None) or ():
            parts += parts_of(part)
    inner = within(model)
    for part in (*_fitted(model), *([] if inner is None else [inner])):
        parts += parts_of(part)
    return parts
