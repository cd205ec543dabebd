"""Rows of one text: what is taken, what is refused with the row that is to blame, and how they travel."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runners.inputs.faults import InputFault
from tests.support.rows import text_format

NAME = "message"
ROWS = text_format(NAME, max_rows=50, max_text_characters=20)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
rows = st.builds(lambda text, form: form(text), texts, st.sampled_from([str, lambda t: [t], lambda t: {NAME: t}]))
requests = st.lists(st.lists(texts, min_size=1, max_size=5), min_size=1, max_size=6)


def text_of(row: Any) -> str:
    return str(row if isinstance(row, str) else row[0] if isinstance(row, list) else row[NAME])


def refused(bad: list[Any]) -> list[InputFault]:
    """The fault of the rows, as those who were decoded get it, and as those whom the decoder refused."""
    with pytest.raises(InputFault) as packed:
        ROWS.pack(bad)
    return [packed.value, ROWS.explain(json.loads(json.dumps(bad)))]


@given(st.lists(rows, min_size=1, max_size=20))
def test_a_text_comes_in_three_forms(made: list[Any]) -> None:
    assert ROWS.pack(made) == [text_of(row) for row in made]


@pytest.mark.parametrize("text", ["", " ", "\0", "a\0b", "\n\t", "é東😀", "\u200d\ufeff", "x" * 20])
def test_a_text_may_hold_any_character_or_none(text: str) -> None:
    assert ROWS.pack([text]) == [text]


FAULTS: dict[str, tuple[Any, str]] = {
    "a number": (5, "not_a_text"),
    "a number in a list": ([0.5], "not_a_text"),
    "a number by name": ({NAME: 1}, "not_a_text"),
    "null": (None, "not_a_text"),
    "true": (True, "not_a_text"),
    "a list in a list": ([["a"]], "not_a_text"),
    "an object by name": ({NAME: {}}, "not_a_text"),
    "too long": ("x" * 21, "text_too_long"),
    "too long in a list": (["x" * 21], "text_too_long"),
    "half a surrogate pair": ("a\ud800", "not_unicode"),
    "the other half by name": ({NAME: "\udfff"}, "not_unicode"),
}


@pytest.mark.parametrize(("bad", "code"), FAULTS.values(), ids=FAULTS)
@given(before=st.lists(rows, max_size=5))
def test_the_first_bad_row_is_named(before: list[Any], bad: Any, code: str) -> None:
    for fault in (*refused([*before, bad]), *refused([*before, bad, 7])):
        assert fault.code == code
        limit = {"limit": 20} if code == "text_too_long" else {}
        assert fault.detail == {"row": len(before), "feature": NAME} | limit
        assert fault.message.startswith(f"row {len(before)}, feature 'message': ")
        assert fault.message.encode()


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
    for fault in refused(["fine", row]):
        assert (fault.code, fault.row) == (code, 1)


def test_a_text_at_the_limit_is_counted_in_characters_not_in_bytes() -> None:
    assert ROWS.pack(["😀" * 20])
    assert refused(["😀" * 21])[0].code == "text_too_long"


def test_no_rows_and_too_many_are_refused_as_for_numbers() -> None:
    assert [fault.code for fault in refused([])] == ["no_rows"] * 2
    assert [fault.code for fault in refused(["a"] * 51)] == ["too_many_rows"] * 2


def test_packed_numbers_are_another_content_type() -> None:
    with pytest.raises(InputFault) as refused:
        ROWS.check_bytes(bytes(40))
    assert refused.value.code == "unsupported_media_type"


def test_examples_are_rows_that_are_taken() -> None:
    assert ROWS.pack([ROWS.named("win a prize"), ROWS.listed("1.5")]) == ["win a prize", "1.5"]


@given(requests)
def test_texts_of_several_requests_are_one_batch(parts: list[list[str]]) -> None:
    count = sum(len(part) for part in parts)
    batch = ROWS.join(parts, count)
    assert batch.shape == (count, 1)
    assert batch.dtype == object
    assert batch[:, 0].tolist() == [text for part in parts for text in part] == ROWS.concat(parts)


@given(st.lists(texts, min_size=1, max_size=9), st.data())
def test_a_part_is_its_texts_in_order(rows: list[str], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(rows) - 1))
    count = data.draw(st.integers(1, len(rows) - start))
    assert ROWS.part(rows, start, count) == ROWS.copy(rows)[start : start + count]


@given(requests)
def test_a_batch_arrives_as_it_was_sent(parts: list[list[str]]) -> None:
    batch = ROWS.join(parts, sum(len(part) for part in parts))
    arrived = ROWS.from_wire(ROWS.to_wire(batch))
    assert arrived.shape == batch.shape
    assert arrived.tolist() == batch.tolist() == ROWS.batch(ROWS.unbatched(batch)).tolist()


@pytest.mark.parametrize("body", [b"", b"\0", b"\x91", b"\x91\x01", b"\x91\xa1\xff", bytes(8)])
def test_bytes_that_are_no_list_of_texts_are_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"not a list of texts|utf-8"):
        ROWS.from_wire(body)


@given(st.lists(texts, min_size=1, max_size=4), st.lists(texts, min_size=1, max_size=4))
def test_two_requests_share_a_key_only_if_their_texts_are_the_same(one: list[str], other: list[str]) -> None:
    assert (ROWS.key(one) == ROWS.key(other)) is (one == other)


@pytest.mark.parametrize(
    ("one", "other"), [(["ab"], ["a", "b"]), (["a", ""], ["a"]), ([""], ["\0"]), (["a,b"], ["a", "b"])]
)
def test_texts_that_run_together_have_keys_of_their_own(one: list[str], other: list[str]) -> None:
    assert ROWS.key(one) != ROWS.key(other)
