"""Rows with texts beside numbers: cut, joined, sent to another process, and as a card has them."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runners.inputs.formats import row_format_of
from runners.inputs.mixed import MixedRows
from runners.inputs.schema import Feature

FORMAT = row_format_of(
    [
        Feature(name="age", nullable=True),
        Feature(name="note", type="text"),
        Feature(name="port", type="category", levels=("S", "C"), other=True),
    ]
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
numbers = st.none() | st.floats(width=32, allow_nan=False, allow_infinity=False)
rows = st.lists(st.tuples(numbers, texts, st.sampled_from(["S", "C"]) | texts).map(list), min_size=1, max_size=9)


def told(batch: Any) -> list[list[Any]]:
    return FORMAT.unbatched(batch)


@given(rows)
def test_rows_stay_what_they_are_on_their_way(given_rows: list[list[Any]]) -> None:
    packed = FORMAT.pack(given_rows)
    count = len(given_rows)
    batch = FORMAT.join([packed], count)
    assert batch.shape == (count, 3)
    parts = [FORMAT.part(packed, at, 1) for at in range(count)]
    assert told(FORMAT.join(parts, count)) == told(batch)
    assert told(FORMAT.join([FORMAT.concat(parts)], count)) == told(batch)
    assert told(FORMAT.from_wire(FORMAT.to_wire(batch))) == told(batch)
    by_name = [dict(zip(FORMAT.feature_names, row, strict=True)) for row in given_rows]
    assert FORMAT.key(packed) == FORMAT.key(FORMAT.pack(by_name))
    assert FORMAT.fitting(batch).all()
    FORMAT.check_examples(told(batch))
    levels = [row[2] if row[2] in ("S", "C") else "other" for row in given_rows]
    assert [FORMAT.listed(row)[2] for row in told(batch)] == levels
    again = FORMAT.pack([FORMAT.listed(row) for row in told(batch)])
    assert [row[1:] for row in again] == [row[1:] for row in packed]
    assert FORMAT.key(again) == FORMAT.key(packed)


def test_texts_that_are_cut_otherwise_are_other_rows() -> None:
    first, second = ([[1.0, one, "S"], [1.0, other, "S"]] for one, other in (("ab", "c"), ("a", "bc")))
    assert FORMAT.key(FORMAT.pack(first)) != FORMAT.key(FORMAT.pack(second))


@pytest.mark.parametrize(
    ("row", "fits"),
    [
        ([1.0, "a", 0.0], True),
        ([math.nan, "", 2.0], True),
        ([1.0, None, 0.0], False),
        ([math.inf, "a", 0.0], False),
        ([1.0, "a", 3.0], False),
        ([1.0, "a", math.nan], False),
        (["1", "a", 0.0], False),
    ],
)
def test_which_rows_could_be_a_request(row: list[Any], fits: bool) -> None:
    batch = np.empty((1, 3), dtype=object)
    batch[0] = row
    assert FORMAT.fitting(batch).tolist() == [fits]


@pytest.mark.parametrize("body", [b"", b"\x91\x01", b"\x91\x92\x01\xa1a", b"\x91\x93\xc0\xa1a\x01"])
def test_what_is_no_batch_is_no_batch(body: bytes) -> None:
    with pytest.raises(ValueError, match="not "):
        FORMAT.from_wire(body)


def test_texts_alone_beside_each_other_are_mixed_as_well() -> None:
    two = row_format_of([Feature(name="title", type="text"), Feature(name="body", type="text")])
    assert isinstance(two, MixedRows)
    assert two.pack([["a", "b"], {"body": "d", "title": "c"}]) == [["a", "b"], ["c", "d"]]
    assert two.in_words == "rows of 2 values, of which title, body are texts"
