"""Packing rows of numbers, against numpy; and what is refused, with the row and the feature that is to blame."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runners.inputs.dense import Row
from runners.inputs.faults import InputFault
from runners.inputs.precision import FLOAT32
from tests.support.rows import NAMES, dense_format, lists, rows_and_values

ROWS = dense_format(NAMES, max_rows=50)


@given(rows_and_values())
def test_packed_rows_are_what_numpy_makes_of_them(made: tuple[list[Any], list[list[float]]]) -> None:
    rows, values = made
    assert ROWS.pack(rows) == np.array(values, dtype=np.float64).astype("<f4").tobytes()


@given(st.lists(lists, min_size=1, max_size=50))
def test_packed_rows_pass_the_check_of_packed_rows(rows: list[Row]) -> None:
    assert ROWS.check_bytes(ROWS.pack(rows)) == len(rows)


def test_a_model_of_one_feature_takes_both_kinds_of_rows() -> None:
    one = dense_format(["only"], max_rows=5)
    assert one.pack([{"only": 1.5}, [2.5]]) == np.array([1.5, 2.5], dtype="<f4").tobytes()
    assert one.pack([[3.5]]) == np.array([3.5], dtype="<f4").tobytes()


def test_the_largest_float32_is_packed_and_the_next_number_is_refused() -> None:
    assert ROWS.pack([[FLOAT32.largest, -FLOAT32.largest, 0.0, -0.0]])
    for beyond in (FLOAT32.largest * 1.01, -FLOAT32.largest * 1.01):
        with pytest.raises(InputFault, match="beyond the range of float32"):
            ROWS.pack([[0.0, beyond, 0.0, 0.0]])


@given(st.lists(lists, max_size=5), st.sampled_from(NAMES))
def test_a_missing_name_is_named(before: list[Any], missing: str) -> None:
    row = {name: 1.0 for name in NAMES if name != missing}
    with pytest.raises(InputFault) as refused:
        ROWS.pack([*before, row])
    assert refused.value.code == "missing_feature"
    assert refused.value.detail == {"row": len(before), "feature": missing}


@given(st.lists(lists, max_size=5), st.text().filter(lambda name: name not in NAMES), st.booleans())
def test_an_unknown_name_is_named_before_a_missing_one(before: list[Any], unknown: str, instead: bool) -> None:
    row = dict.fromkeys(NAMES[instead:], 1.0) | {unknown: 1.0}
    with pytest.raises(InputFault) as refused:
        ROWS.pack([*before, row])
    assert refused.value.code == "unknown_feature"
    assert refused.value.detail == {"row": len(before), "feature": unknown[:100]}


def test_no_rows_are_no_request() -> None:
    with pytest.raises(InputFault) as refused:
        ROWS.pack([])
    assert refused.value.code == "no_rows"


@given(st.lists(lists, min_size=1, max_size=20), st.data())
def test_a_packed_value_that_is_not_finite_is_found(rows: list[Row], data: st.DataObject) -> None:
    values = np.array(rows, dtype=np.float64).astype("<f4")
    row, column = data.draw(st.integers(0, len(rows) - 1)), data.draw(st.integers(0, 3))
    values[row, column] = data.draw(st.sampled_from([np.nan, np.inf, -np.inf]))
    values[row + 1 :, 0] = np.nan
    with pytest.raises(InputFault) as refused:
        ROWS.check_bytes(values.tobytes())
    assert refused.value.detail == {"row": row, "feature": NAMES[column]}


@given(st.binary(max_size=200).filter(lambda body: len(body) % 16))
def test_packed_bytes_that_are_no_whole_rows_are_refused(body: bytes) -> None:
    with pytest.raises(InputFault) as refused:
        ROWS.check_bytes(body)
    assert refused.value.code == "wrong_feature_count"


def test_examples_are_told_without_digits_that_float32_does_not_have() -> None:
    row = [0.1, 1e20, -3.0, 1 / 3]
    stored = [float(np.float32(value)) for value in row]
    listed = ROWS.listed(stored)
    assert json.dumps(listed) == "[0.1, 1e+20, -3.0, 0.33333334]"
    assert [np.float32(value) for value in listed] == stored
    assert ROWS.named(stored) == dict(zip(NAMES, listed, strict=True))


def test_a_truth_value_is_a_boolean_features_alone() -> None:
    mixed = dense_format(NAMES, booleans=["b", "d"])
    rows = [[0.5, True, 2, False], {"d": True, "c": 1, "b": 0, "a": 3}]
    assert mixed.pack_values(rows) == np.array([[0.5, 1, 2, 0], [3, 0, 1, 1]], dtype="<f4").tobytes()
    for row in ([True, True, 2, 0], {"d": True, "c": 1, "b": 0, "a": False}):
        with pytest.raises(InputFault, match="where a number belongs") as refused:
            mixed.pack_values([[0] * 4, row])
        assert refused.value.detail == {"row": 1, "feature": "a"}


@given(st.lists(lists, min_size=1, max_size=20), st.data())
def test_rows_are_cut_joined_and_sent_as_they_are(rows: list[Row], data: st.DataObject) -> None:
    packed = ROWS.pack(rows)
    start = data.draw(st.integers(0, len(rows) - 1))
    count = data.draw(st.integers(1, len(rows) - start))
    before, part, after = ROWS.part(packed, 0, start), ROWS.part(packed, start, count), packed[16 * (start + count) :]
    assert part == ROWS.pack(rows[start : start + count])
    assert ROWS.concat([before, part, after]) == packed
    batch = ROWS.join([before, part, after], len(rows))
    assert batch.shape == (len(rows), 4)
    assert batch.dtype == np.float32
    assert batch.tobytes() == ROWS.join([packed], len(rows)).tobytes() == packed
    assert (ROWS.from_wire(ROWS.to_wire(batch)) == batch).all()
    assert ROWS.batch(ROWS.unbatched(batch)).tobytes() == packed


def test_a_copy_holds_nothing_else_in_memory() -> None:
    whole = ROWS.pack([[1, 2, 3, 4], [5, 6, 7, 8]])
    copied = ROWS.copy(ROWS.part(whole, 1, 1))
    assert type(copied) is bytes
    assert copied == ROWS.pack([[5, 6, 7, 8]])


def test_bytes_that_are_no_whole_rows_do_not_arrive() -> None:
    with pytest.raises(ValueError, match="reshape"):
        ROWS.from_wire(bytes(20))
