"""Rows of requests: joined into a batch, cut, sent to another process and named by a key, for numbers and for texts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runners.batching.job import Job
from runners.inputs.rows import RequestRows, decode_batch, encode_batch, join_of, joined, kept, key_of
from tests.support.cards import TEXT, make_card

NUMBERS, TEXTS = make_card(), make_card(**TEXT)
texts = st.text(st.characters(exclude_categories=["Cs"]))
requests = st.lists(st.lists(texts, min_size=1, max_size=5), min_size=1, max_size=6)


def packed(*values: float) -> bytes:
    return np.array([[value, 0.0] for value in values], dtype="<f4").tobytes()


@given(requests)
def test_texts_of_several_requests_are_one_batch(parts: list[list[str]]) -> None:
    count = sum(len(part) for part in parts)
    batch = join_of(TEXTS)(parts, count)
    assert batch.shape == (count, 1)
    assert batch.dtype == object
    assert batch[:, 0].tolist() == [text for part in parts for text in part] == joined(parts)


def test_numbers_of_several_requests_are_one_batch() -> None:
    parts: list[RequestRows] = [packed(1, 2), memoryview(packed(3))]
    batch = join_of(NUMBERS)(parts, 3)
    assert batch.dtype == np.float32
    assert batch.tolist() == [[1, 0], [2, 0], [3, 0]]
    assert joined(parts) == packed(1, 2, 3)


@given(st.lists(texts, min_size=1, max_size=9), st.data())
def test_a_part_of_a_job_is_its_texts_in_order(rows: list[str], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(rows) - 1))
    count = data.draw(st.integers(1, len(rows) - start))
    assert Job(rows, len(rows), lambda _: None).part(start, count) == rows[start : start + count]


def test_kept_rows_hold_nothing_else_in_memory() -> None:
    whole = packed(1, 2)
    part = kept(memoryview(whole)[8:])
    assert type(part) is bytes
    assert part == packed(2)
    assert kept(["a", "b"]) == ["a", "b"]


@given(requests)
def test_a_batch_of_texts_arrives_as_it_was_sent(parts: list[list[str]]) -> None:
    batch = join_of(TEXTS)(parts, sum(len(part) for part in parts))
    arrived = decode_batch(TEXTS, encode_batch(batch))
    assert arrived.shape == batch.shape
    assert arrived.tolist() == batch.tolist()


@pytest.mark.parametrize("body", [b"", b"\0", b"\x91", b"\x91\x01", b"\x91\xa1\xff", packed(1)])
def test_bytes_that_are_no_list_of_texts_are_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"not a list of texts|utf-8"):
        decode_batch(TEXTS, body)


@given(st.lists(texts, min_size=1, max_size=4), st.lists(texts, min_size=1, max_size=4))
def test_two_requests_share_a_key_only_if_their_texts_are_the_same(one: list[str], other: list[str]) -> None:
    assert (key_of(one) == key_of(other)) is (one == other)


@pytest.mark.parametrize(
    ("one", "other"), [(["ab"], ["a", "b"]), (["a", ""], ["a"]), ([""], ["\0"]), (["a,b"], ["a", "b"])]
)
def test_texts_that_run_together_have_keys_of_their_own(one: list[str], other: list[str]) -> None:
    assert key_of(one) != key_of(other)
