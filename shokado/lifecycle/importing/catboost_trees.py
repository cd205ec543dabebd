"""CatBoost's trees: the JSON that a model saves goes in, an `Ensemble` that answers the same comes out.

CatBoost compares float32 with float32 borders, so nothing is rounded on the way. What it knows of categories in a
split, where a column is one-hot, is a number made of the text; what it counts of one column's categories is told in
`catboost_counts`, and becomes a split that says the side of each.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from shokado.lifecycle.importing.catboost_counts import CategoryCount, counts_of
from shokado.lifecycle.importing.links import Link
from shokado.lifecycle.importing.tree_ensembles import Ensemble, Tree, TreeSplit

NUMBER, ONE_HOT, COUNT = "FloatFeature", "OneHotFeature", "OnlineCtr"
Json = Mapping[str, Any]


def splits_of(content: Json) -> list[Json]:
    """All splits of a model, of whatever kind."""
    found = [split for tree in content.get("oblivious_trees") or () for split in tree.get("splits") or ()]
    waiting = list(content.get("trees") or ())
    while waiting:
        node = waiting.pop()
        if "split" in node:
            found.append(node["split"])
            waiting += [node["left"], node["right"]]
    return found


def ensemble_of(content: Json, link: Link, matching: Mapping[tuple[int, int], float]) -> Ensemble:
    """The trees of a model of numbers and categories.

    Args:
        link: what is made of the margins.
        matching: for each category, by its column's number among the categories and its own, the number that packed
            rows have for it: all that splits ask for, or count.
    """
    info = content["features_info"]
    numbers = {item["feature_index"]: item for item in info.get("float_features") or ()}
    categories = {item["feature_index"]: item["flat_feature_index"] for item in info.get("categorical_features") or ()}

    counts = counts_of(content)

    def split_of(given: Json) -> TreeSplit:
        """What is at most the border goes left, and so does any other category."""
        if given["split_type"] == COUNT:
            count, border = counts[given["split_index"]]
            assert count is not None, "those of several columns are refused"
            known = {number: category for (column, category), number in matching.items() if column == count.column}
            return _by_count(categories[count.column], count, border, known)
        if given["split_type"] == ONE_HOT:
            column, category = given["cat_feature_index"], given["value"]
            at = np.float32(matching[column, category])
            before = float(np.nextafter(at, np.float32(-np.inf)))
            bounds = ((before, True), (float(at), False))
            return TreeSplit(categories[column], bounds, beyond=True, missing=True)
        number = numbers[given["float_feature_index"]]
        border = float(np.float32(given["border"]))
        is_above = number["nan_value_treatment"] == "AsTrue"
        return TreeSplit(number["flat_feature_index"], ((border, True),), beyond=False, missing=not is_above)

    scale, bias = content["scale_and_bias"]
    base = np.zeros(margins_of(content)) + np.atleast_1d(np.asarray(bias or 0, dtype=np.float64))
    if "oblivious_trees" in content:
        trees = [_oblivious(tree, len(base), split_of, scale) for tree in content["oblivious_trees"]]
    else:
        trees = [_free(tree, len(base), split_of, scale) for tree in content["trees"]]
    return Ensemble(trees, base, link)


def _by_count(at: int, count: CategoryCount, border: float, known: Mapping[float, int]) -> TreeSplit:
    """The split of a column by what was counted; `known` are the categories by the numbers that rows have for them."""
    other = bool(count.number(None) <= border)
    pieces: list[tuple[float, bool]] = []
    for number in sorted(known):
        before = float(np.nextafter(np.float32(number), np.float32(-np.inf)))
        pieces += [(before, other), (number, bool(count.number(known[number]) <= border))]
    following = [*pieces[1:], (np.inf, other)]
    bounds = [piece for piece, after in zip(pieces, following, strict=True) if piece[1] != after[1]]
    return TreeSplit(at, tuple(bounds) or ((-np.inf, not other),), beyond=other, missing=other)


def margins_of(content: Json) -> int:
    """How many numbers the trees give a row."""
    if content.get("oblivious_trees"):
        tree = content["oblivious_trees"][0]
        return len(tree["leaf_values"]) >> len(tree.get("splits") or ())
    node = next(iter(content.get("trees") or ()), {"value": 0})
    while "split" in node:
        node = node["left"]
    return int(np.size(node["value"]))


def _oblivious(tree: Json, targets: int, split_of: Any, scale: float) -> Tree:
    """A tree with one split a level, as one with a split for each node: a leaf's number has a bit for each level."""
    levels = [split_of(split) for split in tree.get("splits") or ()]
    splits: list[TreeSplit] = []
    left: list[int] = []
    right: list[int] = []
    for level, split in enumerate(levels):
        is_last, first = level == len(levels) - 1, 2 ** (level + 1) - 1
        for way in range(2**level):
            small, large = way, way | 1 << level
            splits.append(split)
            left.append(-1 - small if is_last else first + small)
            right.append(-1 - large if is_last else first + large)
    leaves = np.asarray(tree["leaf_values"], dtype=np.float64).reshape(-1, targets) * scale
    return Tree(splits, left, right, leaves, tuple(range(targets)))


def _free(tree: Json, targets: int, split_of: Any, scale: float) -> Tree:
    """A tree of any shape."""
    splits: list[TreeSplit] = []
    ways: tuple[list[int], list[int]] = ([], [])
    leaves: list[Any] = []
    waiting: list[tuple[Json, tuple[list[int], int] | None]] = [(tree, None)]
    while waiting:
        node, came_from = waiting.pop()
        position = len(splits) if "split" in node else -1 - len(leaves)
        if came_from is not None:
            came_from[0][came_from[1]] = position
        if "split" not in node:
            leaves.append(np.atleast_1d(node["value"]))
            continue
        splits.append(split_of(node["split"]))
        for way, side in zip(ways, ("left", "right"), strict=True):
            way.append(0)
            waiting.append((node[side], (way, position)))
    values = np.asarray(leaves, dtype=np.float64).reshape(-1, targets) * scale
    return Tree(splits, ways[0], ways[1], values, tuple(range(targets)))
