"""JSON bodies of rows that a strict decoder refused: the explanation names the first bad row and feature, wherever."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runners.inputs.faults import InputFault
from runners.inputs.rows import RowFormat
from shokado.dialects.json_rows import explain_body
from shokado.dialects.problem import Problem, problem_of
from tests.support.rows import NAMES, dense_format, lists, rows_and_values, text_format

ROW_FORMAT = dense_format(NAMES, max_rows=50)
TEXTS = text_format("message", max_rows=50, max_text_characters=20)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def explained(rows: list[Any]) -> Problem:
    """What the strict decoder's caller gets for a body with these rows."""
    return explain_body(ROW_FORMAT, json.dumps({"instances": rows}).encode(), "instances", "refused")


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
    with pytest.raises(InputFault) as refused:
        ROW_FORMAT.pack(rows)
    for problem in (problem_of(refused.value), explained(rows)):
        assert (problem.status, problem.code, problem.detail) == (422, "wrong_feature_count", expected)


@given(st.text(st.characters(categories=["Cs"]), min_size=1, max_size=3))
def test_a_name_that_is_no_unicode_is_explained_in_words_that_are(name: str) -> None:
    problem = explained([dict.fromkeys(NAMES, 1.0) | {name: 1.0}])
    assert problem.code == "unknown_feature"
    assert problem.body("id")


@pytest.mark.parametrize("count", [51, 1_000])
def test_more_rows_than_the_limit_are_413_even_if_they_are_bad(count: int) -> None:
    with pytest.raises(InputFault) as refused:
        ROW_FORMAT.pack([[1.0] * 4] * count)
    for problem in (problem_of(refused.value), explained([None] * count)):
        assert (problem.status, problem.code, problem.detail) == (413, "too_many_rows", {"limit": 50})


@pytest.mark.parametrize("row_format", [ROW_FORMAT, TEXTS], ids=["numbers", "a text"])
@given(body=st.binary(max_size=100))
def test_any_body_is_explained_with_a_4xx(row_format: RowFormat, body: bytes) -> None:
    problem = explain_body(row_format, body, "instances", "refused")
    assert 400 <= problem.status < 500
    assert json.loads(problem.body("id"))["error"]["message"]


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [(5, 422, "not_a_text"), ("x" * 21, 413, "text_too_long"), ({"message": "\udfff"}, 422, "not_unicode")],
)
@given(before=st.lists(texts, max_size=5))
def test_the_explanation_names_the_first_bad_text(before: list[Any], fault: Any, status: int, code: str) -> None:
    body = json.dumps({"instances": [*before, fault, 7]}).encode()
    problem = explain_body(TEXTS, body, "instances", "refused")
    assert (problem.status, problem.code) == (status, code)
    assert problem.detail == {"row": len(before), "feature": "message"} | ({"limit": 20} if status == 413 else {})
    assert problem.body("id")
