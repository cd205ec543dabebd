"""Trees behind a front: made trees that look at the columns themselves, and at tables of what is encoded.

    a number that keeps its order   threshold --> the float32 that parts the same numbers
    what becomes of a missing one   the side it goes to
    a category or another encoding  a table of ranks among the thresholds, or of sides for sets of categories

So a graph computes nothing that scikit-learn has in float64, and a row on a threshold takes the framework's side.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shokado.lifecycle.errors import UnsupportedModel
from shokado.lifecycle.importing.float32_bounds import LARGEST, Digits, bounds_before
from shokado.lifecycle.importing.fronts import Front, State
from shokado.lifecycle.importing.graph_builder import Builder
from shokado.lifecycle.importing.level_tables import ColumnTable, lookups
from shokado.lifecycle.importing.tree_nodes import TreeEnsemble, margins, with_nodes

MAX_SIDES = 2**21
"""How many numbers the tables of one ensemble may have."""


@dataclass(frozen=True, eq=False)
class _Folded:
    """The arrays of the new nodes, which change as it is made, and the tables, numbered behind the columns."""

    ensemble: TreeEnsemble
    front: Front
    features: NDArray[np.int64]
    thresholds: NDArray[np.float64]
    missing_left: NDArray[np.bool_]
    tables: list[ColumnTable]

    @property
    def width(self) -> int:
        return len(self.front.features) + sum(len(table.at) for table in self.tables)

    def nodes_of(self, output: int) -> NDArray[np.int64]:
        return np.flatnonzero(self.ensemble.nodes.splits & (self.ensemble.nodes.features == output))

    def is_left(self, values: NDArray[np.float64], thresholds: NDArray[np.float64]) -> NDArray[np.bool_]:
        with np.errstate(over="ignore"):
            values = values.astype(self.ensemble.compared_as)
        return np.asarray(values < thresholds if self.ensemble.is_strict else values <= thresholds)


def folded_margins(builder: Builder, ensemble: TreeEnsemble, front: Front, digits: Digits, source: str) -> str:
    """Nodes that score a tensor of the columns themselves as the ensemble scores what its front makes of them.

    A row with a number that the front has no value for has no score.

    Args:
        digits: what the columns' numbers are like.
    """
    nodes = ensemble.nodes
    arrays = (nodes.features.copy(), nodes.thresholds.copy(), nodes.missing_left.copy())
    folded = _Folded(ensemble, front, *arrays, [])
    outputs = np.unique(nodes.features[nodes.splits]).tolist()
    origins = front.origins or []
    encoded = [output for output in outputs if origins[output].state is State.ENCODED]
    for column in sorted({origins[output].column for output in encoded}):
        _tabulate(folded, column, [output for output in encoded if origins[output].column == column])
    numbers = [output for output in outputs if origins[output].state is not State.ENCODED]
    if numbers:
        _unscale(folded, numbers, digits)
    changed = with_nodes(
        ensemble, features=folded.features, thresholds=folded.thresholds, missing_left=folded.missing_left
    )
    taken = source
    if folded.tables:
        taken = builder.add("Concat", [source, lookups(builder, source, folded.tables)], axis=1)
    margin = margins(builder, changed, taken)
    return _guarded(builder, margin, front, source)


def _tabulate(folded: _Folded, column: int, outputs: Sequence[int]) -> None:
    """Let the nodes of outputs that come of one encoded column look at a table of it."""
    answers, is_taken = folded.front.answers(column)
    found: list[NDArray[np.float64]] = []
    start = folded.width
    for output in outputs:
        values = np.where(is_taken, answers[:, output], 0).astype(folded.ensemble.compared_as)
        at = folded.nodes_of(output)
        is_set = folded.ensemble.nodes.is_set[at]
        if (~is_set).any():
            found.append(_ranks(folded, at[~is_set], values, start + len(found)))
        if is_set.any():
            found += _sides(folded, at[is_set], values, start + len(found))
    if len(found) * len(answers) > MAX_SIDES:
        raise UnsupportedModel(
            f"Its trees tell the levels of {folded.front.features[column].name} apart in {len(found)} ways, which is "
            "too much to be looked up: take fewer levels, or fewer trees."
        )
    keys = folded.front.keys_of(column)
    slots = np.arange(len(found)) + start - len(folded.front.features)
    folded.tables.append(ColumnTable(column, np.stack(found, axis=1).astype(np.float32), slots, keys=keys))


def _ranks(folded: _Folded, at: NDArray[np.int64], values: NDArray[Any], feature: int) -> NDArray[np.float64]:
    """A column of how many thresholds of these nodes are below each value, which they compare with their own rank."""
    thresholds = folded.ensemble.nodes.thresholds[at]
    bounds = np.unique(thresholds)
    folded.features[at], folded.thresholds[at] = feature, np.searchsorted(bounds, thresholds) + 0.5
    ranks = np.searchsorted(bounds, values, side="right" if folded.ensemble.is_strict else "left")
    return np.where(np.isnan(values), np.nan, ranks)


def _sides(folded: _Folded, at: NDArray[np.int64], values: NDArray[Any], feature: int) -> list[NDArray[np.float64]]:
    """A column of 0 for left and 1 for right for each different set of categories of these nodes."""
    nodes, known = folded.ensemble.nodes, folded.ensemble.known
    assert nodes.sets is not None
    assert known is not None
    is_category = ~np.isnan(values) & (values >= 0) & (values < known.shape[1])
    codes = np.where(is_category, values, 0).astype(np.int64)
    is_known = is_category & known[nodes.features[at[0]]][codes]
    # What is missing, or is none of the categories of the training, goes where missing ones do.
    is_right = np.where(is_known, ~nodes.sets[at][:, codes], ~nodes.missing_left[at][:, None])
    different, which = np.unique(is_right, axis=0, return_inverse=True)
    folded.features[at], folded.thresholds[at] = feature + which.ravel(), 0.5
    return [row.astype(np.float64) for row in different]


def _unscale(folded: _Folded, outputs: Sequence[int], digits: Digits) -> None:
    """Put the thresholds of outputs that keep the order of their columns before the front."""
    origins, ensemble = folded.front.origins or [], folded.ensemble
    for some in _rounds([(output, origins[output].column) for output in outputs]):
        columns = [origins[output].column for output in some]
        by_output = [np.unique(ensemble.nodes.thresholds[folded.nodes_of(output)]) for output in some]
        bounds = np.full((max(map(len, by_output)), len(some)), np.nan)
        for slot, thresholds in enumerate(by_output):
            bounds[: len(thresholds), slot] = thresholds

        def is_left(
            rows: NDArray[np.float64],
            columns: Sequence[int] = columns,
            some: Sequence[int] = some,
            bounds: NDArray[np.float64] = bounds,
        ) -> NDArray[np.bool_]:
            found = folded.front.of(dict(zip(columns, rows.T, strict=True)), len(rows))[:, some]
            return folded.is_left(found, bounds)

        lowest = np.array([max(origins[output].floor, -LARGEST) for output in some])
        found = bounds_before(is_left, lowest, len(bounds), digits.of(columns), is_strict=ensemble.is_strict)
        for slot, (output, column) in enumerate(zip(some, columns, strict=True)):
            at = folded.nodes_of(output)
            thresholds = ensemble.nodes.thresholds[at]
            folded.features[at] = column
            folded.thresholds[at] = found[np.searchsorted(by_output[slot], thresholds), slot]
            gap = folded.front.of_missing(column)
            if gap is not None and not np.isnan(gap[output]):
                folded.missing_left[at] = folded.is_left(np.full(len(at), gap[output]), thresholds)


def _rounds(outputs: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Outputs in groups that have each column once."""
    rounds: list[dict[int, int]] = []
    for output, column in outputs:
        for known in rounds:
            if column not in known:
                known[column] = output
                break
        else:
            rounds.append({column: output})
    return [list(known.values()) for known in rounds]


def _guarded(builder: Builder, margin: str, front: Front, source: str) -> str:
    """No score for a row with a number below what the front has a value for."""
    floors = {origin.column: origin.floor for origin in front.origins or () if np.isfinite(origin.floor)}
    for column, floor in floors.items():
        below = builder.add(
            "Less", [builder.column(source, column), builder.constant(np.array([[floor]], dtype=np.float32))]
        )
        nothing, zero = (builder.constant(np.array([[value]], dtype=np.float32)) for value in (np.nan, 0))
        margin = builder.add("Add", [margin, builder.add("Where", [below, nothing, zero])])
    return margin
