"""The same typed row in every dialect: the same packed numbers, or the same fault."""

from typing import Any

import numpy as np
import pytest

from runners.inputs.datatypes import BYTES
from runners.inputs.faults import InputFault
from runners.inputs.schema import Feature
from shokado.dialects.open_inference import OpenInference
from shokado.dialects.problem import Problem
from tests.dialects.column_ways import NAN, ColumnWays
from tests.support.cards import make_card

FEATURES = [
    Feature(name="sex", type="category", levels=("male", "female")),
    Feature(name="port", type="category", levels=("S", "C, or Q"), nullable=True, other=True),
    Feature(name="age", nullable=True),
    Feature(name="class", type="integer"),
    Feature(name="alone", type="boolean"),
]
SENDING = ColumnWays(FEATURES)
WAYS = SENDING.all()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("row", "packed"),
    [
        (["male", "S", 1.5, 3, True], [0, 0, 1.5, 3, 1]),
        (["female", "C, or Q", 40, 1, False], [1, 1, 40, 1, 0]),
        (["female", "Zürich ✓", None, 2, True], [1, 2, NAN, 2, 1]),
    ],
)
def test_the_same_row_is_the_same_numbers(way: str, row: list[Any], packed: list[float]) -> None:
    found = np.frombuffer(WAYS[way](row), "<f4")
    np.testing.assert_array_equal(found, np.array(packed, "<f4"))


@pytest.mark.parametrize("way", [way for way in WAYS if "binary" not in way and way != "gRPC"])
def test_a_missing_level_is_null(way: str) -> None:
    """Tensors of texts have no null but in JSON."""
    found = np.frombuffer(WAYS[way](["male", None, 1, 1, True]), "<f4")
    np.testing.assert_array_equal(found, np.array([0, NAN, 1, 1, 1], "<f4"))


@pytest.mark.parametrize("way", WAYS)
def test_an_unknown_level_is_refused_alike(way: str) -> None:
    with pytest.raises((InputFault, Problem)) as refused:
        WAYS[way](["mal", "S", 1.5, 3, True])
    fault: Any = refused.value
    assert fault.code == "unknown_level"
    assert "row 0, feature 'sex': the text 'mal' is none of its 2 levels; the nearest is 'male'" in fault.message


def test_examples_of_tensors_have_levels_as_texts() -> None:
    rows: list[list[Any]] = [[1, 2, None, 4, 1], [0, 0, 1.5, 2, 0]]
    card = make_card(
        format=3,
        features=[feature.model_dump() for feature in FEATURES],
        examples={"rows": rows, "scores": [0.5, 0.25]},
    )
    examples = OpenInference(SENDING.rows).describe(card).takes["application/json"].examples
    assert list(examples) == ["a tensor for each feature", "one output, with an id", "the best two classes"]
    expected = np.array([[np.nan if value is None else value for value in rows[0]]], "<f4").tobytes()
    for example in examples.values():
        sent = {tensor["name"]: (tensor["datatype"], tensor["data"]) for tensor in example["inputs"]}
        assert sent == {
            "sex": (BYTES, ["female"]),
            "port": (BYTES, ["other"]),
            "age": ("FP64", [None]),
            "class": ("FP64", [4]),
            "alone": ("BOOL", [True]),
        }
        assert bytes(SENDING.posted(OpenInference, example)) == expected
