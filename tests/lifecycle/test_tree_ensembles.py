"""Trees of boosting libraries as ONNX: the graph of an ensemble answers as its splits say, for every float32.

The rules of LightGBM and CatBoost are those of their sources; `tests/frameworks` asks the libraries themselves.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from shokado.lifecycle.errors import UnsupportedModel
from shokado.lifecycle.importing.catboost_trees import ensemble_of, margins_of, splits_of
from shokado.lifecycle.importing.graphs import INPUT
from shokado.lifecycle.importing.lightgbm_trees import (
    OWN_OBJECTIVE,
    ZERO,
    ModelText,
    category_split,
    level_split,
    number_split,
)
from shokado.lifecycle.importing.links import Link
from shokado.lifecycle.importing.tree_ensembles import Ensemble, Tree, TreeSplit, graph_of

EXACT, ROUNDED = (True,), (False,)
NO_GAPS, ZERO_IS_A_GAP, NAN_IS_A_GAP = 0, 1, 2


def answers(ensemble: Ensemble, rows: Any, exact: Any = EXACT, *, is_pair: bool = False) -> NDArray[np.float32]:
    graph = graph_of(ensemble, np.shape(rows)[1], exact, is_pair=is_pair)
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {INPUT: np.asarray(rows, dtype=np.float32)})
    return np.asarray(found)


def sides(split: TreeSplit, values: Any, exact: Any = EXACT) -> list[bool]:
    """Whether the graph of one split takes each value to the left."""
    tree = Tree([split], [-1], [-2], np.array([[1.0], [0.0]]), (0,))
    found = answers(Ensemble([tree], np.zeros(1), Link.IDENTITY), np.reshape(values, (-1, 1)), exact)
    return [bool(answer > 0.5) for answer in found.ravel()]


def neighbours(*values: float) -> list[float]:
    """Each number as a float32, and those on both sides of it."""
    near = np.array(values, dtype=np.float32)
    ends = (np.nextafter(near, np.float32(end)) for end in (-np.inf, np.inf))
    return [float(number) for number in np.concatenate([near, *ends])]


def lightgbm_goes_left(value: float, threshold: float, missing: int, default_left: bool) -> bool:
    """The rule of `Tree::NumericalDecision`, behind the one that makes 0 of the smallest numbers."""
    if abs(value) <= ZERO or (np.isnan(value) and missing != NAN_IS_A_GAP):
        value = 0.0
    if (missing == ZERO_IS_A_GAP and value == 0) or (missing == NAN_IS_A_GAP and np.isnan(value)):
        return default_left
    return value <= threshold


THRESHOLDS = [0.0, ZERO, -ZERO, 1.5, -1.5, 0.1, 40.2, 1e-36, -1e-36, 3e-35, -3e-35, 1e300, -1e300, 16777217.0]


@pytest.mark.parametrize("missing", [NO_GAPS, ZERO_IS_A_GAP, NAN_IS_A_GAP])
@pytest.mark.parametrize("default_left", [False, True])
@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_numbers_go_where_lightgbm_has_them_go(threshold: float, default_left: bool, missing: int) -> None:
    with np.errstate(over="ignore"):
        values = [*neighbours(0, ZERO, -ZERO, 1, -1, *np.clip([threshold], -3e38, 3e38)), 3e38, -3e38, np.nan]
    split = number_split(0, threshold, missing, default_left=default_left)
    wanted = [lightgbm_goes_left(value, threshold, missing, default_left) for value in values]
    assert sides(split, values) == wanted


@given(
    threshold=st.floats(-(2.0**100), 2.0**100),
    value=st.floats(-(2.0**100), 2.0**100, width=32),
    missing=st.sampled_from([NO_GAPS, ZERO_IS_A_GAP, NAN_IS_A_GAP]),
    default_left=st.booleans(),
)
def test_a_split_goes_left_as_lightgbm_does(threshold: float, value: float, missing: int, default_left: bool) -> None:
    split = number_split(0, threshold, missing, default_left=default_left)
    rounded = [float(np.float32(bound)) for bound, _ in split.bounds]
    if value not in rounded:  # what a bound is rounded to, the graph's tests above say
        assert split.goes_left(value) == lightgbm_goes_left(value, threshold, missing, default_left)
    assert split.goes_left(np.nan) == lightgbm_goes_left(np.nan, threshold, missing, default_left)


def test_thresholds_of_doubles_are_rounded_as_the_numbers_are() -> None:
    split = TreeSplit(0, ((40.2, True),), beyond=False, missing=False)
    assert sides(split, [40.2], ROUNDED) == [True]  # in float32 it is a little more
    assert sides(split, [40.2], EXACT) == [False]


@given(members=st.sets(st.integers(0, 60), min_size=1, max_size=12))
def test_categories_are_cut_to_whole_numbers(members: set[int]) -> None:
    values = [*range(-2, 64), *(np.arange(-20, 640) / 10).tolist(), *neighbours(*members), np.nan, 1e9]

    def wanted(value: float) -> bool:
        return not np.isnan(value) and int(value) in members and int(np.trunc(value)) >= 0

    split = category_split(0, sorted(members))
    assert [split.goes_left(float(np.float32(value))) for value in values] == [
        wanted(float(np.float32(value))) for value in values
    ]


def test_a_chain_of_categories_is_a_graph() -> None:
    split = category_split(0, [0, 2, 3, 9, 40])
    values = [-1, -0.5, 0, 0.9, 1, 2, 3.5, 4, 8.9, 9, 10, 39, 40, 41, np.nan]
    assert sides(split, values) == [
        False,
        True,
        True,
        True,
        False,
        True,
        True,
        False,
        False,
        True,
        *[False] * 2,
        True,
        False,
        False,
    ]
    assert sides(category_split(0, []), values) == [False] * len(values)
    with pytest.raises(UnsupportedModel, match="float32 does not hold"):
        category_split(0, [2**24])


def test_levels_are_positions_of_texts_or_numbers_themselves() -> None:
    texts = level_split(category_split(0, [1, 3]), ["a", "b", "c", "d"])
    assert sides(texts, [0, 1, 2, 3, 4, np.nan]) == [False, True, False, True, False, False]
    all_of_them = level_split(category_split(0, [0, 1]), ["a", "b"])
    assert sides(all_of_them, [0, 1, 2, np.nan]) == [True, True, False, False]
    none = level_split(category_split(0, [7]), ["a", "b"])
    assert sides(none, [0, 1, 2, np.nan]) == [False] * 4
    whole = level_split(category_split(0, [0, 2]), [10, 3, 7.5])
    assert sides(whole, [10, 3, 7.5, 7, 8, 9, np.nan]) == [True, False, True, False, False, False, False]
    ordered = level_split(number_split(0, 1.5, NAN_IS_A_GAP, default_left=True), ["a", "b", "c"])
    assert sides(ordered, [0, 1, 2, 3, np.nan]) == [True, True, False, True, True]
    with pytest.raises(UnsupportedModel, match=r"0\.1, which float32 does not hold"):
        level_split(category_split(0, [0]), [0.1, 1.0])


CHAINED = Tree(
    [category_split(0, [1, 5]), TreeSplit(1, ((0.5, True),), beyond=False, missing=True), category_split(1, [7])],
    [1, -1, -3],
    [2, -2, -4],
    np.array([[10.0], [20.0], [30.0], [40.0]]),
    (0,),
)


def test_both_sides_of_a_chain_may_have_splits_behind_them() -> None:
    rows = [(1, 0), (1, np.nan), (5, 1), (0, 7), (3, 7), (9, 8), (np.nan, 7)]
    found = answers(Ensemble([CHAINED], np.array([1.0]), Link.IDENTITY), rows, (True, True))
    assert found.ravel().tolist() == [11, 11, 21, 31, 31, 41, 31]


LINKS: dict[Link, Callable[[Any], Any]] = {
    Link.IDENTITY: lambda margin: margin,
    Link.EXP: np.exp,
    Link.SIGMOID: lambda margin: 1 / (1 + np.exp(-margin)),
    Link.SOFTPLUS: lambda margin: np.log1p(np.exp(margin)),
    Link.SIGNED_SQUARE: lambda margin: np.sign(margin) * margin**2,
}


@pytest.mark.parametrize("link", LINKS)
def test_links(link: Link) -> None:
    leaves = np.array([[-3.5], [0.25]])
    tree = Tree([TreeSplit(0, ((0.0, True),), beyond=False, missing=False)], [-1], [-2], leaves, (0,))
    alone = Tree([], [], [], np.array([[0.5]]), (0,))
    found = answers(Ensemble([tree, alone], np.array([0.25]), link), [[-1], [1]])
    np.testing.assert_allclose(found.ravel(), LINKS[link](leaves.ravel() + 0.75), rtol=1e-6)


def test_a_pair_adds_up_to_one_and_a_softmax_has_a_margin_a_class() -> None:
    split = TreeSplit(0, ((0.0, True),), beyond=False, missing=False)
    one = Tree([split], [-1], [-2], np.array([[-2.0], [1.0]]), (0,))
    pairs = answers(Ensemble([one], np.zeros(1), Link.SIGMOID), [[-1], [1]], is_pair=True)
    np.testing.assert_allclose(pairs[:, 1], 1 / (1 + np.exp([2.0, -1.0])), rtol=1e-6)
    np.testing.assert_allclose(pairs.sum(axis=1), 1, rtol=1e-6)
    other = Tree([split], [-1], [-2], np.array([[0.0, 3.0], [1.0, 0.5]]), (1, 2))
    margins = np.array([[-2.0, 0, 3], [1, 1, 0.5]])
    found = answers(Ensemble([one, other], np.zeros(3), Link.SOFTMAX), [[-1], [1]])
    wanted = np.exp(margins) / np.exp(margins).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_sums_of_many_trees_are_rounded_as_their_differences_are() -> None:
    random = np.random.default_rng(0)
    split = TreeSplit(0, ((0.0, True),), beyond=False, missing=False)
    trees = [Tree([split], [-1], [-2], 1000 + random.normal(0, 1e-3, (2, 1)), (0,)) for _ in range(500)]
    found = answers(Ensemble(trees, np.zeros(1), Link.IDENTITY), [[-1], [1]])
    wanted = sum(tree.leaves for tree in trees)
    assert np.abs(found - wanted).max() <= 0.04  # the distance of float32 there


# Texts and JSON.

TEXT = """tree
version=v4
num_class=1
num_tree_per_iteration=1
label_index=0
max_feature_idx=1
objective=binary sigmoid:2
feature_names=a b
feature_infos=[-1:1] 0:1:2
tree_sizes=1 1
{header}
Tree=0
num_leaves=3
num_cat=1
split_feature=0 1
threshold=0.5 0
decision_type=10 1
left_child=-1 -2
right_child=1 -3
leaf_value=1 2 -3
cat_boundaries=0 1
cat_threshold=5
is_linear=0
shrinkage=0.1


Tree=1
num_leaves=1
num_cat=0
split_feature=
threshold=
decision_type=
left_child=
right_child=
leaf_value=0.5
is_linear=0
shrinkage=1


end of trees

feature_importances:
a=1

pandas_categorical:null
"""


def test_the_text_of_lightgbm_is_read() -> None:
    text = ModelText.of(TEXT.format(header=""))
    assert (text.objective, text.margins, text.is_linear) == ("binary", 1, False)
    assert (set(text.with_gaps), set(text.coded)) == ({0}, {1})
    found = answers(text.ensemble({}), [[0, 0], [np.nan, 0], [1, 0], [1, 1], [1, 2], [1, np.nan]], (True, True))
    margins = np.array([1, 1, 2, -3, 2, -3]) + 0.5
    np.testing.assert_allclose(found.ravel(), 1 / (1 + np.exp(-2 * margins)), atol=1e-7)


def test_a_forest_is_an_average_and_an_unnamed_objective_a_margin() -> None:
    averaged = ModelText.of(TEXT.format(header="average_output\n").replace("binary sigmoid:2", "regression sqrt"))
    rows = [[0.0, 0.0], [1.0, 1.0]]
    found = answers(averaged.ensemble({}), rows, (True, True))
    np.testing.assert_allclose(found.ravel(), [0.75**2, -(1.25**2)], rtol=1e-6)
    own = ModelText.of(TEXT.format(header="").replace("objective=binary sigmoid:2\n", ""))
    assert own.objective == OWN_OBJECTIVE
    np.testing.assert_allclose(answers(own.ensemble({}), rows, (True, True)).ravel(), [1.5, -2.5], rtol=1e-6)


def test_lines_in_leaves_are_added_up_unless_a_column_of_theirs_is_missing() -> None:
    header = "max_feature_idx=1\n"
    of_one = "is_linear=1\nleaf_const=10 20 30\nnum_features=1 2 0\nleaf_features=0 0 1\nleaf_coeff=2 0.5 -4"
    text = TEXT.format(header=header).replace("binary sigmoid:2", "regression").replace("is_linear=0", of_one, 1)
    lines = ModelText.of(text)
    assert lines.is_linear
    rows = [[0.25, 7], [0.5, np.nan], [np.nan, 1], [1, 0], [1, 2], [1, 1], [1, np.nan]]
    found = answers(lines.ensemble({}), rows, (True, True))
    sums = [10 + 2 * 0.25, 10 + 2 * 0.5, 1, 20 + 0.5, 20 + 0.5 - 4 * 2, 30, 30]
    np.testing.assert_allclose(found.ravel(), np.array(sums) + 0.5, rtol=1e-6)


def test_a_margin_that_no_split_adds_to_is_kept() -> None:
    """As that of a class with too few rows for a split."""
    split = TreeSplit(0, ((0.5, True),), beyond=False, missing=True)
    trees = [
        Tree([split], [-1], [-2], np.array([[1.0], [2.0]]), (0,)),
        Tree([], [], [], np.array([[3.0]]), (1,)),
    ]
    found = answers(Ensemble(trees, np.array([0.0, 10.0]), Link.IDENTITY), [[0.0], [1.0]])
    assert found.tolist() == [[1, 13], [2, 13]]


INFO: dict[str, Any] = {
    "float_features": [
        {"feature_index": 0, "flat_feature_index": 0, "nan_value_treatment": "AsTrue", "has_nans": True},
        {"feature_index": 1, "flat_feature_index": 2, "nan_value_treatment": "AsFalse", "has_nans": True},
    ],
    "categorical_features": [{"feature_index": 0, "flat_feature_index": 1, "values": [-7]}],
}
LARGE = {"split_type": "FloatFeature", "float_feature_index": 0, "border": 0.5}
LARGE_TOO = {"split_type": "FloatFeature", "float_feature_index": 1, "border": 0.25}
IS_THIRD = {"split_type": "OneHotFeature", "cat_feature_index": 0, "value": -7}


def test_the_json_of_catboost_is_read() -> None:
    leaves = [1.0, 2, 3, 4, 5, 6, 7, 8]
    content = {
        "features_info": INFO,
        "scale_and_bias": [2.0, [100.0]],
        "oblivious_trees": [{"splits": [LARGE, IS_THIRD, LARGE_TOO], "leaf_values": leaves}],
    }
    assert (len(splits_of(content)), margins_of(content)) == (3, 1)
    rows = [
        (0.5, 0, 0.25), (0.6, 0, 0), (0, 2, 0), (1, 2, 0), (0, 0, 1), (1, 2, 1), (np.nan, 0, np.nan), (np.nan, 2, 9),
        (0, 1.9, 0), (0, np.nan, 0),
    ]  # fmt: skip
    ensemble = ensemble_of(content, Link.IDENTITY, {(0, -7): 2.0})
    found = answers(ensemble, rows, (True, True, True)).ravel()
    assert found.tolist() == [102, 104, 106, 108, 110, 116, 104, 116, 102, 102]


def test_trees_of_any_shape_and_several_margins() -> None:
    node = {
        "split": LARGE,
        "left": {"value": [1.0, -1.0], "weight": 1},
        "right": {"split": LARGE_TOO, "left": {"value": [2.0, -2.0]}, "right": {"value": [3.0, -3.0]}},
    }
    content = {"features_info": INFO, "scale_and_bias": [1.0, []], "trees": [node]}
    assert (len(splits_of(content)), margins_of(content)) == (2, 2)
    found = answers(ensemble_of(content, Link.IDENTITY, {}), [[0, 0, 9], [1, 0, 0], [1, 0, 1]], (True,) * 3)
    assert found.tolist() == [[1, -1], [2, -2], [3, -3]]
