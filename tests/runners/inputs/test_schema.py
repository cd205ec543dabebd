"""The schema that a card's features make: columns of kinds, and the tensor as which rows travel."""

from io import StringIO

import numpy as np
import pandas as pd
import pytest
from pandas._libs.parsers import STR_NA_VALUES

from configuration.settings import LimitSettings
from runners.inputs.columns import Boolean, Category, Integer, Number, Text
from runners.inputs.faults import InputFault
from runners.inputs.formats import row_format_of
from runners.inputs.schema import ROWS, Feature, Schema
from tests.support.cards import TEXT, make_card

LIMITS = LimitSettings(max_rows=3, max_text_characters=7)
MIXED = [Feature(name=kind, type=kind) for kind in ("float", "integer", "category", "boolean")]
MESSAGE = Feature(name="message", type="text")


def test_numbers_integers_and_categories_are_numbers_and_booleans_may_be_truth_values() -> None:
    schema = Schema.of(MIXED, LIMITS)
    assert schema.columns == (Number("float"), Integer("integer"), Number("category"), Boolean("boolean"))
    assert schema.names == ("float", "integer", "category", "boolean")
    assert (schema.datatype, schema.shape) == ("FP32", (ROWS, 4))


def test_a_text_is_a_schema_of_its_own() -> None:
    schema = Schema.of([MESSAGE], LIMITS)
    assert schema.columns == (Text("message", 7),)
    assert (schema.datatype, schema.shape) == ("BYTES", (ROWS,))
    assert not schema.is_mixed


def test_a_text_beside_other_columns_has_a_tensor_of_its_own() -> None:
    schema = Schema.of([*MIXED, MESSAGE], LIMITS)
    assert schema.is_mixed
    assert (schema.datatype, schema.shape) == ("BYTES", (ROWS, len(MIXED) + 1))


def test_a_card_says_which_format_its_rows_have() -> None:
    numbers, text = make_card().row_format, make_card(**TEXT).row_format
    assert (numbers.dtype, numbers.feature_names) == (np.float32, ("width", "count"))
    assert (text.dtype, text.feature_names) == (object, ("message",))
    assert make_card().row_format is numbers, "made once for all cards of the same features"


def test_a_server_sets_limits() -> None:
    numbers, text = row_format_of(MIXED, LIMITS), row_format_of([MESSAGE], LIMITS)
    for row_format, row in ((numbers, [0, 0, 0, True]), (text, "short")):
        assert row_format.pack_values([row] * 3)
        with pytest.raises(InputFault, match="4 rows in one request; at most 3 are allowed"):
            row_format.pack_values([row] * 4)
    with pytest.raises(InputFault, match="at most 7 are allowed"):
        text.pack(["x" * 8])


@pytest.mark.parametrize(
    ("cell", "number", "text"),
    [("1.5", 1.5, "1.5"), ("True", True, "True"), ("false", False, "false"), ("", "", ""), ("1_000", "1_000", "1_000")],
)
def test_a_cell_of_a_table_is_read_by_its_column(cell: str, number: object, text: str) -> None:
    assert Number("a").read_cell(cell) == Boolean("a").read_cell(cell) == number
    assert type(Number("a").read_cell(cell)) is type(number)
    assert Text("a", 9).read_cell(cell) == text


def test_a_cell_is_missing_where_pandas_reads_it_so_and_no_level_is_meant() -> None:
    """What pandas reads as a text is the text that JSON would say, which a model may take as any other one."""
    column = Category("plan", nullable=True, levels=("basic", "None"), other=True)
    cells = [*STR_NA_VALUES, "na", "NONE", " nan", "?", "N/a", "basic", "Basic"]
    table = pd.read_csv(StringIO("plan,n\n" + "".join(f"{cell},1\n" for cell in cells)))
    as_pandas = table["plan"].astype(object).where(table["plan"].notna(), None)
    expected = [cell if cell == "None" else read for cell, read in zip(cells, as_pandas, strict=True)]
    assert [column.read_cell(cell) for cell in cells] == expected
    assert [Number("n", nullable=True).read_cell(cell) for cell in STR_NA_VALUES] == [None] * len(STR_NA_VALUES)


@pytest.mark.parametrize("value", [True, False])
def test_a_truth_value_is_taken_by_a_boolean_column_alone(value: object) -> None:
    assert Boolean("a").fault(0, value) is None
    for column in (Number("a"), Text("a", 9)):
        fault = column.fault(2, value)
        assert fault is not None
        assert fault.detail == {"row": 2, "feature": "a"}
