"""What a scoring server is sent: values as clients say them, as a frame of JSON or as a tensor for each column."""

import json
from typing import Any

import pytest

from runners.inputs.formats import row_format_of
from runners.inputs.schema import Feature
from runners.placements.column_tensors import ColumnTensors
from runners.placements.frames import UnfitValue, plain_rows
from runners.placements.inference import Mismatch, TensorDescription
from runners.placements.invocations import Invocations

FEATURES = (
    Feature(name="age", nullable=True),
    Feature(name="visits", type="integer", nullable=True),
    Feature(name="member", type="boolean"),
    Feature(name="port", type="category", levels=("C", "Q", "S"), nullable=True),
)
TEXT = (Feature(name="message", type="text"),)
TAKEN = [
    TensorDescription("port", "BYTES", [-1, 1]),
    TensorDescription("age", "FP64", [-1, 1]),
    TensorDescription("visits", "INT32", [-1, 1]),
    TensorDescription("member", "BOOL", [-1, 1]),
]
ROWS = [[40.2, 3, True, "S"], [None, None, False, None], [-1e-7, 2**24, True, "C"]]


def plain(features: tuple[Feature, ...], *rows: Any) -> list[list[Any]]:
    """Rows of JSON, after they were packed."""
    row_format = row_format_of(features)
    batch = row_format.join([row_format.pack_values(list(rows))], len(rows))
    return plain_rows(features, row_format, batch)


def test_a_frame_has_the_values_that_clients_send() -> None:
    rows = plain(FEATURES, *ROWS)
    frame = json.loads(Invocations([feature.name for feature in FEATURES]).write(rows))["dataframe_split"]
    assert frame == {"columns": ["age", "visits", "member", "port"], "data": ROWS}
    assert [type(value) for value in frame["data"][0]] == [float, int, bool, str]
    assert plain(FEATURES, {"port": "Q", "member": 1, "visits": 0, "age": 7}) == [[7.0, 0, True, "Q"]]


def test_tensors_have_them_by_their_columns() -> None:
    asked = json.loads(ColumnTensors(FEATURES, TAKEN).write(plain(FEATURES, *ROWS)))
    assert asked["parameters"] == {"content_type": "pd"}
    sent = {tensor["name"]: tensor for tensor in asked["inputs"]}
    assert list(sent) == ["age", "visits", "member", "port"]
    assert [tensor["datatype"] for tensor in sent.values()] == ["FP64", "INT32", "BOOL", "BYTES"]
    assert [tensor["data"] for tensor in sent.values()] == [list(column) for column in zip(*ROWS, strict=True)]
    assert {tuple(tensor["shape"]) for tensor in sent.values()} == {(3, 1)}
    assert sent["port"]["parameters"] == {"content_type": "str"}


@pytest.mark.parametrize(
    ("taken", "said"),
    [
        ([], "takes no columns, where age, visits, member, port belong"),
        (TAKEN[:3], "takes port, age, visits, where"),
        ([*TAKEN[:3], TensorDescription("employed", "BOOL", [-1, 1])], "takes port, age, visits, employed, where"),
        ([*TAKEN[:3], TensorDescription("member", "INT64", [-1, 1])], "takes member as INT64, where a boolean belongs"),
    ],
)
def test_another_model_is_named(taken: list[TensorDescription], said: str) -> None:
    with pytest.raises(Mismatch, match=said):
        ColumnTensors(FEATURES, taken)


def test_a_text_is_a_column_of_its_own() -> None:
    assert plain(TEXT, "win", "") == [["win"], [""]]


def test_a_model_of_numbers_alone_gets_numbers() -> None:
    assert plain((Feature(name="width"), Feature(name="count", type="integer")), [0.1, 2.0]) == [[0.1, 2]]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ([1.0, 3.7, True, "S"], "'visits' is 3.7, where a whole number belongs"),
        ([1.0, 3, 2, "S"], "'member' is 2, where true or false belongs"),
    ],
)
def test_what_the_server_would_make_another_value_of_is_not_sent(row: list[Any], said: str) -> None:
    with pytest.raises(UnfitValue, match=said):
        plain(FEATURES, row)
