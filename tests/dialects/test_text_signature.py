"""Rows of one text: what is taken, and what is refused with the row that is to blame."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configuration.settings import LimitSettings
from shokado.dialects.problem import Problem
from shokado.dialects.signature import Signature, example_rows
from shokado.dialects.signatures import signature_of
from shokado.dialects.text_signature import TextSignature
from tests.support.cards import TEXT, make_card

NAME = "message"
SIGNATURE = TextSignature(NAME, max_rows=50, max_text_characters=20)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
rows = st.builds(lambda text, form: form(text), texts, st.sampled_from([str, lambda t: [t], lambda t: {NAME: t}]))


def text_of(row: Any) -> str:
    return str(row if isinstance(row, str) else row[0] if isinstance(row, list) else row[NAME])


def refused(bad: list[Any]) -> list[Problem]:
    """The problem of the rows, as those who were decoded get it, and as those whom the decoder refused."""
    with pytest.raises(Problem) as packed:
        SIGNATURE.pack(bad)
    return [packed.value, SIGNATURE.explain_body(json.dumps({"instances": bad}).encode(), "instances", "refused")]


@given(st.lists(rows, min_size=1, max_size=20))
def test_a_text_comes_in_three_forms(made: list[Any]) -> None:
    assert SIGNATURE.pack(made) == [text_of(row) for row in made]


@pytest.mark.parametrize("text", ["", " ", "\0", "a\0b", "\n\t", "é東😀", "\u200d\ufeff", "x" * 20])
def test_a_text_may_hold_any_character_or_none(text: str) -> None:
    assert SIGNATURE.pack([text]) == [text]


FAULTS: dict[str, tuple[Any, int, str]] = {
    "a number": (5, 422, "not_a_text"),
    "a number in a list": ([0.5], 422, "not_a_text"),
    "a number by name": ({NAME: 1}, 422, "not_a_text"),
    "null": (None, 422, "not_a_text"),
    "true": (True, 422, "not_a_text"),
    "a list in a list": ([["a"]], 422, "not_a_text"),
    "an object by name": ({NAME: {}}, 422, "not_a_text"),
    "too long": ("x" * 21, 413, "text_too_long"),
    "too long in a list": (["x" * 21], 413, "text_too_long"),
    "half a surrogate pair": ("a\ud800", 422, "not_unicode"),
    "the other half by name": ({NAME: "\udfff"}, 422, "not_unicode"),
}


@pytest.mark.parametrize(("fault", "status", "code"), FAULTS.values(), ids=FAULTS)
@given(before=st.lists(rows, max_size=5))
def test_the_first_bad_row_is_named(before: list[Any], fault: Any, status: int, code: str) -> None:
    for problem in (*refused([*before, fault]), *refused([*before, fault, 7])):
        assert (problem.status, problem.code) == (status, code)
        assert problem.detail == {"row": len(before), "feature": NAME} | ({"limit": 20} if status == 413 else {})
        assert problem.message.startswith(f"row {len(before)}, feature 'message': ")
        assert problem.body("id")


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ([], "wrong_feature_count"),
        (["a", "b"], "wrong_feature_count"),
        ({}, "missing_feature"),
        ({"subject": "a"}, "unknown_feature"),
        ({NAME: "a", "subject": "b"}, "unknown_feature"),
        ({"\ud800": "a"}, "unknown_feature"),
    ],
)
def test_a_row_of_more_or_other_fields_is_refused(row: Any, code: str) -> None:
    for problem in refused(["fine", row]):
        assert (problem.status, problem.code, problem.detail["row"]) == (422, code, 1)


def test_a_text_at_the_limit_is_counted_in_characters_not_in_bytes() -> None:
    assert SIGNATURE.pack(["😀" * 20])
    assert refused(["😀" * 21])[0].code == "text_too_long"


def test_no_rows_and_too_many_are_refused_as_for_numbers() -> None:
    assert [problem.code for problem in refused([])] == ["no_rows"] * 2
    assert [problem.code for problem in refused(["a"] * 51)] == ["too_many_rows"] * 2


def test_packed_numbers_are_another_content_type() -> None:
    with pytest.raises(Problem) as problem:
        SIGNATURE.check_binary(bytes(40))
    assert (problem.value.status, problem.value.code) == (415, "unsupported_media_type")


@given(st.binary(max_size=100))
def test_any_body_is_explained_with_a_4xx(body: bytes) -> None:
    assert 400 <= SIGNATURE.explain_body(body, "instances", "refused").status < 500


def test_the_card_says_which_signature_a_model_has() -> None:
    limits = LimitSettings(max_rows=3, max_text_characters=7)
    text, numbers = signature_of(make_card(**TEXT), limits), signature_of(make_card(), limits)
    assert isinstance(text, TextSignature)
    assert text.feature_names == (NAME,)
    with pytest.raises(Problem, match="at most 7 are allowed"):
        text.pack(["x" * 8])
    assert type(numbers) is Signature
    assert numbers.max_rows == 3


def test_examples_are_rows_that_the_signature_takes() -> None:
    assert SIGNATURE.pack(example_rows(make_card(**TEXT))) == ["win a prize", "1.5"]
