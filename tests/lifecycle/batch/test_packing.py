"""Packing: whichever way a slice goes, its rows are what a server packs of the same rows, or have the same fault."""

from typing import Any

import numpy as np
import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configuration.settings import LimitSettings
from runners.inputs.faults import InputFault
from runners.inputs.formats import row_format_of
from runners.inputs.rows import RowFormat
from runners.inputs.schema import Feature
from shokado.lifecycle.batch import packing
from shokado.lifecycle.batch.packing import PackedRows, pack
from shokado.lifecycle.batch.table_slice import TableSlice

LIMITS = LimitSettings(max_rows=1_000_000)
DENSE = [Feature(name="width"), Feature(name="count", type="integer"), Feature(name="new", type="boolean")]
TYPED = [
    Feature(name="width", nullable=True),
    Feature(name="count", type="integer", nullable=True),
    Feature(name="city", type="category", levels=("Bern", "Basel"), nullable=True),
    Feature(name="kind", type="category", levels=("a", "b"), other=True),
]
WIDE = [Feature(name="width", precision="float64"), Feature(name="count", type="integer")]
MIXED = [*TYPED, Feature(name="words", type="text")]
TEXT = [Feature(name="words", type="text")]

CELLS = st.sampled_from(
    ["1", "1.5", " 2 ", "+3", "-0.0", "1e5", "1e39", "nan", "inf", "", "NA", "null", "1_0", "0x1", "x", "True", "false",
     "16777217", "9007199254740993", "Bern", "Basel", "a", "b", "1.0000000596046448", "4.35", "é"]
)  # fmt: skip


def slice_of(columns: dict[str, Any], *, cells: bool) -> TableSlice:
    rows = len(next(iter(columns.values())))
    return TableSlice(100, rows, columns, frozenset(columns) if cells else frozenset())


def expected(row_format: RowFormat, rows: list[list[Any]]) -> list[Any]:
    """What a server makes of each row alone: its batch, or the code and feature of its fault."""
    found: list[Any] = []
    for row in rows:
        try:
            packed = row_format.pack_values([row])
            row_format.check_finite(packed)
            found.append(row_format.join([packed], 1).tolist()[0])
        except InputFault as fault:
            found.append((fault.code, fault.feature, fault.message))
    return found


def outcomes(packed: PackedRows, rows: int) -> list[Any]:
    found: list[Any] = [None] * rows
    for at, position in enumerate(packed.positions.tolist()):
        assert packed.batch is not None
        found[position] = packed.batch[at].tolist()
    for position, fault in packed.faults.items():
        assert found[position] is None, "a row has a fault or is packed"
        assert fault.row == 100 + position
        found[position] = (fault.code, fault.feature, fault.message.replace(f"row {fault.row}", "row 0", 1))
    return found


def same(one: list[Any], other: list[Any]) -> None:
    assert [repr(each) for each in one] == [repr(each) for each in other]


@pytest.mark.parametrize("features", [DENSE, TYPED, WIDE, MIXED, TEXT], ids=["dense", "typed", "wide", "mixed", "text"])
@given(st.data())
def test_cells_mean_what_they_mean_in_a_table_of_a_request(features: list[Feature], data: st.DataObject) -> None:
    row_format = row_format_of(features, LIMITS)
    cells = data.draw(st.lists(st.tuples(*[CELLS] * len(features)), min_size=1, max_size=5))
    read = row_format.cell_reader(row_format.feature_names)
    columns = {
        name: pyarrow.array([row[at] for row in cells], pyarrow.string())
        for at, name in enumerate(row_format.feature_names)
    }
    packed = pack(slice_of(columns, cells=True), row_format, np.arange(len(cells)))
    same(outcomes(packed, len(cells)), expected(row_format, [read(list(row)) for row in cells]))


NUMBERS = st.one_of(st.floats(allow_nan=True, allow_infinity=True), st.sampled_from([0.1, 1.0, 16_777_217.0, 3.5e38]))
VALUES: dict[str, Any] = {
    "width": st.tuples(st.just(pyarrow.float64()), NUMBERS | st.none()),
    "count": st.tuples(st.just(pyarrow.int64()), st.integers(-(2**60), 2**60) | st.integers(-5, 5) | st.none()),
    "new": st.tuples(st.just(pyarrow.bool_()), st.booleans() | st.none()),
    "city": st.tuples(st.just(pyarrow.string()), st.sampled_from(["Bern", "Basel", "Biel", "", None])),
    "kind": st.tuples(st.just(pyarrow.string()), st.sampled_from(["a", "b", "z", None])),
    "words": st.tuples(st.just(pyarrow.string()), st.sampled_from(["good day", "", None])),
}


@pytest.mark.parametrize("features", [DENSE, TYPED, WIDE, MIXED, TEXT], ids=["dense", "typed", "wide", "mixed", "text"])
@given(st.data())
def test_values_mean_what_they_mean_in_json(features: list[Feature], data: st.DataObject) -> None:
    row_format = row_format_of(features, LIMITS)
    drawn = data.draw(st.lists(st.tuples(*[VALUES[one.name] for one in features]), min_size=1, max_size=5))
    columns = {
        name: pyarrow.array([row[at][1] for row in drawn], drawn[0][at][0])
        for at, name in enumerate(row_format.feature_names)
    }
    packed = pack(slice_of(columns, cells=False), row_format, np.arange(len(drawn)))
    same(outcomes(packed, len(drawn)), expected(row_format, [[value for _, value in row] for row in drawn]))


def test_clean_rows_are_packed_together() -> None:
    """Otherwise the tests above would say nothing of the quick way."""
    typed = row_format_of(TYPED, LIMITS)
    cells = {"width": ["1.5", ""], "count": ["2", "3"], "city": ["Basel", ""], "kind": ["z", "a"]}
    columns = [pyarrow.array(cells[name]) for name in typed.feature_names]
    assert packing._packed_together(columns, [True] * 4, typed) is not None
    dense = row_format_of(DENSE, LIMITS)
    values = [pyarrow.array([1.5, 2]), pyarrow.array([1, 2]), pyarrow.array([True, False])]
    packed = packing._packed_together(values, [False] * 3, dense)
    assert dense.join([packed], 2).tolist() == [[1.5, 1, 1], [2, 2, 0]]


def test_some_rows_of_a_slice_are_packed_and_told_by_their_own_numbers() -> None:
    dense = row_format_of(DENSE[:1], LIMITS)
    part = slice_of({"width": pyarrow.array([1.0, 2.0, None, 4.0, float("inf")])}, cells=False)
    packed = pack(part, dense, np.array([1, 2, 4]))
    assert packed.batch is not None
    assert (packed.batch.tolist(), packed.positions.tolist()) == ([[2.0]], [1])
    assert {row: fault.message for row, fault in packed.faults.items()} == {
        2: "row 102, feature 'width': null where a number belongs; the model takes no missing values, so fill it in",
        4: "row 104, feature 'width': the value is infinite; send a finite number",
    }


@pytest.mark.parametrize(
    ("feature", "kind", "why"),
    [
        (DENSE[0], pyarrow.string(), "the model takes numbers"),
        (DENSE[0], pyarrow.timestamp("s"), "the model takes numbers"),
        (DENSE[0], pyarrow.bool_(), "it is of truth values"),
        (DENSE[2], pyarrow.bool_(), None),
        (DENSE[0], pyarrow.decimal128(9, 2), None),
        (TYPED[2], pyarrow.int64(), "the model takes texts"),
        (TYPED[2], pyarrow.dictionary(pyarrow.int8(), pyarrow.string()), None),
        (TEXT[0], pyarrow.large_string(), None),
    ],
)
def test_a_column_of_which_no_value_can_be_taken_is_told_beforehand(feature: Feature, kind: Any, why: str) -> None:
    (column,) = row_format_of([feature], LIMITS).schema.columns
    found = packing.why_unfit(column, kind)
    assert found is None if why is None else found is not None and why in found
