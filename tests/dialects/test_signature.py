"""Packing rows, against numpy; and the explanation, which names the first bad row and feature wherever it is."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runners.artefacts.card import Examples
from shokado.dialects.problem import Problem
from shokado.dialects.signature import FLOAT32_MAX, Row, Signature, example_rows
from tests.support.cards import toy_card

NAMES = ("a", "b", "c", "d")
SIGNATURE = Signature(NAMES, max_rows=50)
finite = st.floats(allow_nan=False, allow_infinity=False, min_value=-FLOAT32_MAX, max_value=FLOAT32_MAX)
numbers = st.one_of(finite, st.integers(-(2**64), 2**64))
lists = st.lists(numbers, min_size=4, max_size=4)


@st.composite
def rows_and_values(draw: st.DrawFn) -> tuple[list[Any], list[list[float]]]:
    """Rows as lists or as objects in any order, and their values in the features' order."""
    values = draw(st.lists(lists, min_size=1, max_size=20))
    rows: list[Any] = []
    for row in values:
        order = draw(st.permutations(range(4))) if draw(st.booleans()) else None
        rows.append(row if order is None else {NAMES[index]: row[index] for index in order})
    return rows, values


@given(rows_and_values())
def test_packed_rows_are_what_numpy_makes_of_them(made: tuple[list[Any], list[list[float]]]) -> None:
    rows, values = made
    assert SIGNATURE.pack(rows) == np.array(values, dtype=np.float64).astype("<f4").tobytes()


@given(st.lists(lists, min_size=1, max_size=50))
def test_packed_rows_pass_the_check_of_packed_rows(rows: list[Row]) -> None:
    assert SIGNATURE.check_binary(SIGNATURE.pack(rows)) == len(rows)


def test_a_model_of_one_feature_takes_both_kinds_of_rows() -> None:
    one = Signature(["only"], max_rows=5)
    assert one.pack([{"only": 1.5}, [2.5]]) == np.array([1.5, 2.5], dtype="<f4").tobytes()
    assert one.pack([[3.5]]) == np.array([3.5], dtype="<f4").tobytes()


def test_the_largest_float32_is_packed_and_the_next_number_is_refused() -> None:
    assert SIGNATURE.pack([[FLOAT32_MAX, -FLOAT32_MAX, 0.0, -0.0]])
    for beyond in (FLOAT32_MAX * 1.01, -FLOAT32_MAX * 1.01):
        with pytest.raises(Problem, match="beyond the range of float32"):
            SIGNATURE.pack([[0.0, beyond, 0.0, 0.0]])


def explained(rows: list[Any]) -> Problem:
    """What the strict decoder's caller gets for a body with these rows."""
    return SIGNATURE.explain_body(json.dumps({"instances": rows}).encode(), "instances", "refused")


FAULTS: list[Any] = [math.nan, math.inf, -math.inf, 1e39, -1e300, 10**400, None, True, False, "x", "", [], {}]
faults = st.sampled_from(FAULTS)


@given(rows_and_values(), faults, st.data())
def test_the_explanation_names_the_first_bad_row_and_its_feature(
    made: tuple[list[Any], list[list[float]]], fault: Any, data: st.DataObject
) -> None:
    rows, _ = made
    at = data.draw(st.integers(0, len(rows) - 1))
    name = data.draw(st.sampled_from(NAMES))
    rows[at][NAMES.index(name) if isinstance(rows[at], list) else name] = fault
    for later in rows[at + 1 :]:
        if isinstance(later, list):
            later.append(0.0)
    problem = explained(rows)
    assert problem.status == 422
    assert problem.detail == {"row": at, "feature": name}
    assert problem.message.startswith(f"row {at}, feature {name!r}: ")
    assert problem.code == ("not_finite" if isinstance(fault, float | int) and fault not in (True, False) else
                            "not_a_number")  # fmt: skip


@given(st.lists(lists, max_size=10), st.lists(lists, max_size=10), st.integers(0, 9).filter(lambda n: n != 4))
def test_a_row_of_another_length_is_counted(before: list[Any], after: list[Any], length: int) -> None:
    rows = [*before, [0.0] * length, *after]
    expected = {"row": len(before), "expected": 4, "got": length}
    with pytest.raises(Problem) as refused:
        SIGNATURE.pack(rows)
    for problem in (refused.value, explained(rows)):
        assert (problem.status, problem.code, problem.detail) == (422, "wrong_feature_count", expected)


@given(st.lists(lists, max_size=5), st.sampled_from(NAMES))
def test_a_missing_name_is_named(before: list[Any], missing: str) -> None:
    row = {name: 1.0 for name in NAMES if name != missing}
    with pytest.raises(Problem) as refused:
        SIGNATURE.pack([*before, row])
    assert refused.value.code == "missing_feature"
    assert refused.value.detail == {"row": len(before), "feature": missing}


@given(st.lists(lists, max_size=5), st.text().filter(lambda name: name not in NAMES), st.booleans())
def test_an_unknown_name_is_named_before_a_missing_one(before: list[Any], unknown: str, instead: bool) -> None:
    row = dict.fromkeys(NAMES[instead:], 1.0) | {unknown: 1.0}
    with pytest.raises(Problem) as refused:
        SIGNATURE.pack([*before, row])
    assert refused.value.code == "unknown_feature"
    assert refused.value.detail == {"row": len(before), "feature": unknown[:100]}


@given(st.text(st.characters(categories=["Cs"]), min_size=1, max_size=3))
def test_a_name_that_is_no_unicode_is_explained_in_words_that_are(name: str) -> None:
    problem = explained([dict.fromkeys(NAMES, 1.0) | {name: 1.0}])
    assert problem.code == "unknown_feature"
    assert problem.body("id")


@pytest.mark.parametrize("count", [51, 1_000])
def test_more_rows_than_the_limit_are_413_even_if_they_are_bad(count: int) -> None:
    with pytest.raises(Problem) as refused:
        SIGNATURE.pack([[1.0] * 4] * count)
    for problem in (refused.value, explained([None] * count)):
        assert (problem.status, problem.code, problem.detail) == (413, "too_many_rows", {"limit": 50})


def test_no_rows_are_no_request() -> None:
    with pytest.raises(Problem) as refused:
        SIGNATURE.pack([])
    assert (refused.value.status, refused.value.code) == (422, "no_rows")


@given(st.lists(lists, min_size=1, max_size=20), st.data())
def test_a_packed_value_that_is_not_finite_is_found(rows: list[Row], data: st.DataObject) -> None:
    values = np.array(rows, dtype=np.float64).astype("<f4")
    row, column = data.draw(st.integers(0, len(rows) - 1)), data.draw(st.integers(0, 3))
    values[row, column] = data.draw(st.sampled_from([np.nan, np.inf, -np.inf]))
    values[row + 1 :, 0] = np.nan
    with pytest.raises(Problem) as refused:
        SIGNATURE.check_binary(values.tobytes())
    assert refused.value.detail == {"row": row, "feature": NAMES[column]}


@given(st.binary(max_size=200).filter(lambda body: len(body) % 16))
def test_packed_bytes_that_are_no_whole_rows_are_refused(body: bytes) -> None:
    with pytest.raises(Problem) as refused:
        SIGNATURE.check_binary(body)
    assert (refused.value.status, refused.value.code) == (422, "wrong_feature_count")


@given(st.binary(max_size=100))
def test_any_body_is_explained_with_a_4xx(body: bytes) -> None:
    problem = SIGNATURE.explain_body(body, "instances", "refused")
    assert 400 <= problem.status < 500
    assert json.loads(problem.body("id"))["error"]["message"]


def test_examples_are_told_without_digits_that_float32_does_not_have() -> None:
    rows = [[0.1, 1e20, -3.0], [16.98, 2.0, 1 / 3]]
    stored = [[float(np.float32(value)) for value in row] for row in rows]
    examples = {"rows": stored, "scores": [0.5, 0.5]}
    named, listed = example_rows(toy_card().model_copy(update={"examples": Examples.model_validate(examples)}))
    assert list(named.values()) == rows[0]
    assert json.dumps(listed) == "[16.98, 2.0, 0.33333334]"
    assert [np.float32(value) for value in (*named.values(), *listed)] == [value for row in stored for value in row]
