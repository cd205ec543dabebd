"""LightGBM's trees: the text that a Booster saves goes in, an `Ensemble` that answers the same comes out.

The text has each number with all its digits, and each tree in arrays, however deep it is. What LightGBM makes of a
value is in three rules: a number up to `ZERO` in size is 0; NaN is 0 where the training had no gaps in the column; and
a category is a whole number, to which others are cut.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runners.inputs.precision import FLOAT32
from shokado.lifecycle.errors import UnsupportedModel
from shokado.lifecycle.importing.linear_leaves import MAX_WEIGHTS, Lines
from shokado.lifecycle.importing.links import Link
from shokado.lifecycle.importing.tree_ensembles import Ensemble, Tree, TreeSplit

ZERO = float(np.float32(1e-35))
"""Up to this size, LightGBM takes a number for 0."""
_BELOW_ZERO = float(np.nextafter(np.float32(-ZERO), np.float32(-np.inf)))
_LINKS = {
    "binary": Link.SIGMOID,
    "cross_entropy": Link.SIGMOID,
    "cross_entropy_lambda": Link.SOFTPLUS,
    "fair": Link.IDENTITY,
    "gamma": Link.EXP,
    "huber": Link.IDENTITY,
    "lambdarank": Link.IDENTITY,
    "mape": Link.IDENTITY,
    "multiclass": Link.SOFTMAX,
    "multiclassova": Link.SIGMOID,
    "poisson": Link.EXP,
    "quantile": Link.IDENTITY,
    "rank_xendcg": Link.IDENTITY,
    "regression": Link.IDENTITY,
    "regression_l1": Link.IDENTITY,
    "tweedie": Link.EXP,
}
OWN_OBJECTIVE = "of one's own"
"""An objective that the text does not name: the answer is the margin."""
_CATEGORICAL, _DEFAULT_LEFT = 1, 2
_NO_GAPS, _ZERO_IS_A_GAP = 0, 1


@dataclass(frozen=True, eq=False)
class ModelText:
    """The text of a Booster, read."""

    header: Mapping[str, str]
    trees: Sequence[Mapping[str, str]]

    @classmethod
    def of(cls, text: str) -> "ModelText":
        head, *trees = text.split("\nend of trees", 1)[0].split("\nTree=")
        return cls(_fields(head), [_fields(tree) for tree in trees])

    @property
    def objective(self) -> str:
        return next(iter(self._objective), OWN_OBJECTIVE)

    @property
    def _objective(self) -> list[str]:
        """Its name and its parameters; none of somebody's own."""
        tokens = self.header.get("objective", "").split()
        return tokens if tokens[:1] != ["custom"] else []

    @property
    def margins(self) -> int:
        """How many numbers the trees of one round give a row."""
        return int(self.header["num_tree_per_iteration"])

    @property
    def is_linear(self) -> bool:
        return any(tree.get("is_linear", "0") != "0" for tree in self.trees)

    @property
    def _width(self) -> int:
        """How many columns it takes."""
        return int(self.header["max_feature_idx"]) + 1

    @property
    def has_many_weights(self) -> bool:
        """Whether a table of all leaves and columns would be too large."""
        return sum(int(tree["num_leaves"]) for tree in self.trees) * self._width > MAX_WEIGHTS

    @cached_property
    def with_gaps(self) -> frozenset[int]:
        """The columns in which the training had gaps, as far as splits tell."""
        found = set()
        for tree in self.trees:
            for column, kind in zip(_wholes(tree, "split_feature"), _wholes(tree, "decision_type"), strict=True):
                if (kind >> 2) & 3 != _NO_GAPS:
                    found.add(int(column))
        return frozenset(found)

    @property
    def coded(self) -> frozenset[int]:
        """The columns whose numbers are categories."""
        infos = self.header.get("feature_infos", "").split()
        return frozenset(at for at, info in enumerate(infos) if info != "none" and not info.startswith("["))

    def ensemble(self, categories: Mapping[int, Sequence[Any]]) -> Ensemble:
        """The trees and the link.

        Args:
            categories: for each column of a pandas category its levels: texts, which rows have as positions, or the
                numbers that rows have themselves.
        """
        named = dict(token.split(":", 1) for token in self._objective if ":" in token)
        link = _LINKS.get(self.objective, Link.IDENTITY)
        if "sqrt" in self._objective:
            link = Link.SIGNED_SQUARE
        factor = float(named.get("sigmoid", 1)) if link is Link.SIGMOID else 1.0
        if "average_output" in self.header:
            factor /= len(self.trees) // self.margins
        trees = [_tree(tree, number % self.margins, factor, categories) for number, tree in enumerate(self.trees)]
        if self.is_linear:
            trees = [
                replace(tree, lines=_lines(fields, tree.leaves[:, 0], factor, self._width))
                for tree, fields in zip(trees, self.trees, strict=True)
            ]
        return Ensemble(trees, np.zeros(self.margins), link)


def is_known(objective: str) -> bool:
    return objective in _LINKS or objective == OWN_OBJECTIVE


def _fields(text: str) -> dict[str, str]:
    return {name: value for name, _, value in (line.partition("=") for line in text.splitlines()) if name}


def _wholes(tree: Mapping[str, str], name: str) -> NDArray[np.int64]:
    return np.array(tree.get(name, "").split(), dtype=np.int64)


def _tree(fields: Mapping[str, str], target: int, factor: float, categories: Mapping[int, Sequence[Any]]) -> Tree:
    thresholds = np.array(fields.get("threshold", "").split(), dtype=np.float64)
    bits, boundaries = _wholes(fields, "cat_threshold"), _wholes(fields, "cat_boundaries")
    splits = []
    for column, kind, threshold in zip(
        _wholes(fields, "split_feature").tolist(), _wholes(fields, "decision_type").tolist(), thresholds.tolist(),
        strict=True,
    ):  # fmt: skip
        if kind & _CATEGORICAL:
            first, last = boundaries[int(threshold) : int(threshold) + 2].tolist()
            split = category_split(column, _members(bits[first:last]))
        else:
            split = number_split(column, threshold, (kind >> 2) & 3, default_left=bool(kind & _DEFAULT_LEFT))
        splits.append(level_split(split, categories[column]) if column in categories else split)
    leaves = np.array(fields["leaf_value"].split(), dtype=np.float64).reshape(-1, 1) * factor
    left, right = _wholes(fields, "left_child").tolist(), _wholes(fields, "right_child").tolist()
    return Tree(splits, left, right, leaves, (target,))


def _lines(fields: Mapping[str, str], leaves: NDArray[np.float64], factor: float, width: int) -> Lines:
    """What the leaves of a tree add, [leaves]; a tree without lines adds its leaves' numbers."""
    weights, uses = np.zeros((len(leaves), width)), np.zeros((len(leaves), width), dtype=bool)
    if fields.get("is_linear", "0") == "0":
        return Lines(weights, leaves, leaves, uses)
    rows = np.repeat(np.arange(len(leaves)), _wholes(fields, "num_features"))
    columns = _wholes(fields, "leaf_features")
    weights[rows, columns] = np.array(fields.get("leaf_coeff", "").split(), dtype=np.float64) * factor
    uses[rows, columns] = True
    constants = np.array(fields["leaf_const"].split(), dtype=np.float64) * factor
    return Lines(weights, constants, leaves, uses)


def _members(words: NDArray[np.int64]) -> list[int]:
    """The numbers whose bits are set in words of 32."""
    return [at * 32 + bit for at, word in enumerate(words.tolist()) for bit in range(32) if word >> bit & 1]


def number_split(column: int, threshold: float, missing_kind: int, *, default_left: bool) -> TreeSplit:
    """Values up to the threshold go left; what counts as missing, where it says so."""
    zero_left = threshold >= 0
    if abs(threshold) <= ZERO:
        threshold = ZERO if zero_left else _BELOW_ZERO
    if missing_kind == _NO_GAPS:
        return TreeSplit(column, ((threshold, True),), beyond=False, missing=zero_left)
    if missing_kind != _ZERO_IS_A_GAP or zero_left == default_left:
        return TreeSplit(column, ((threshold, True),), beyond=False, missing=default_left)
    zero = ((_BELOW_ZERO, not default_left), (ZERO, default_left))
    if default_left:
        bounds = ((threshold, True), *zero) if threshold < _BELOW_ZERO else ((ZERO, True),)
    else:
        bounds = (*zero, (threshold, True)) if threshold > ZERO else ((_BELOW_ZERO, True),)
    return TreeSplit(column, bounds, beyond=False, missing=default_left)


def category_split(column: int, members: Sequence[int]) -> TreeSplit:
    """Numbers that are one of some whole ones, when what is behind the point is cut, go left.

    Raises `UnsupportedModel` for whole ones that float32 does not hold.
    """
    if members and max(members) >= FLOAT32.whole:
        raise UnsupportedModel(f"One of its categories is the number {max(members)}, which float32 does not hold.")
    bounds: list[tuple[float, bool]] = []
    for member in sorted(members):
        below = -1.0 if member == 0 else _before(member)
        if bounds and bounds[-1][0] == below:
            bounds.pop()
        else:
            bounds.append((below, False))
        bounds.append((_before(member + 1), True))
    return TreeSplit(column, tuple(bounds) or ((-np.inf, True),), beyond=False, missing=False)


def level_split(split: TreeSplit, levels: Sequence[Any]) -> TreeSplit:
    """A split of the positions of levels as one of what rows have: positions of texts, or the numbers themselves.

    All else is missing to LightGBM. Raises `UnsupportedModel` for numbers that float32 does not hold.
    """
    sides = [split.goes_left(position) for position in range(len(levels))]
    if any(isinstance(level, str) for level in levels):
        pieces = [(float(position), side) for position, side in enumerate(sides)]
    else:
        pieces = []
        for level, side in sorted((float(level), side) for level, side in zip(levels, sides, strict=True)):
            if float(np.float32(level)) != level:
                raise UnsupportedModel(f"One of its categories is the number {level!r}, which float32 does not hold.")
            pieces += [(_before(level), split.missing), (level, side)]
    bounds = [
        piece for piece, (_, after) in zip(pieces, [*pieces[1:], (np.inf, split.missing)], strict=True)
        if piece[1] != after
    ]  # fmt: skip
    none = ((-np.inf, not split.missing),)
    return TreeSplit(split.column, tuple(bounds) or none, beyond=split.missing, missing=split.missing)


def _before(number: float) -> float:
    """The largest float32 below a number."""
    return float(np.nextafter(np.float32(number), np.float32(-np.inf)))
