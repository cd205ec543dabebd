"""The same row with a text beside other columns in every dialect: the same values, or the same fault."""

import math
from typing import Any

import pytest

from configuration.settings import LimitSettings
from runners.inputs.faults import InputFault
from runners.inputs.schema import Feature
from runners.placements.inference import (
    Mismatch,
    RemoteModelMetadata,
    RemoteServerMetadata,
    TensorDescription,
    agree,
    write_columns,
)
from shokado.dialects.head import RequestHead
from shokado.dialects.model_tensors import input_tensors
from shokado.dialects.native import Native
from shokado.dialects.open_inference import OpenInference
from shokado.dialects.problem import Problem, problem_of
from tests.dialects.column_ways import ColumnWays
from tests.support.cards import make_card

FEATURES = [
    Feature(name="age", nullable=True),
    Feature(name="note", type="text"),
    Feature(name="port", type="category", levels=("S", "C, or Q"), nullable=True, other=True),
    Feature(name="visits", type="integer"),
    Feature(name="alone", type="boolean"),
    Feature(name="title", type="text"),
]
SENDING = ColumnWays(FEATURES)
WAYS = SENDING.all()
TEXT_LIMIT = LimitSettings().max_text_characters


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("row", "packed"),
    [
        ([1.5, "A note, \"quoted\".", "S", 3, True, "Dr"], [1.5, "A note, \"quoted\".", 0, 3, 1, "Dr"]),
        ([40, "", "C, or Q", 1, False, "1.5"], [40, "", 1, 1, 0, "1.5"]),
        ([None, "null", "Zürich ✓", 2, True, "東京\0\n 😀"], [None, "null", 2, 2, 1, "東京\0\n 😀"]),
    ],
)  # fmt: skip
def test_the_same_row_is_the_same_values(way: str, row: list[Any], packed: list[Any]) -> None:
    if way == "CSV" and "\0" in row[-1]:
        row, packed = [*row[:-1], "東京\n 😀"], [*packed[:-1], "東京\n 😀"]  # which Python's reader takes for its end
    (found,) = WAYS[way](row)
    assert [None if isinstance(value, float) and math.isnan(value) else value for value in found] == packed
    assert [type(value) for value in found] == [str if isinstance(value, str) else float for value in packed]


def refusal(way: str, row: list[Any]) -> Problem:
    with pytest.raises((InputFault, Problem)) as refused:
        WAYS[way](row)
    return problem_of(refused.value)


@pytest.mark.parametrize("way", WAYS)
def test_a_text_that_is_too_long_is_refused_alike(way: str) -> None:
    problem = refusal(way, [1.5, "x" * (TEXT_LIMIT + 1), "S", 3, True, "Dr"])
    assert (problem.code, problem.status) == ("text_too_long", 413)
    assert f"at most {TEXT_LIMIT} are allowed" in problem.message


@pytest.mark.parametrize("way", WAYS)
def test_a_number_that_would_be_rounded_is_refused_alike(way: str) -> None:
    problem = refusal(way, [1.5, "a", "S", 2**24 + 1, True, "Dr"])
    assert problem.code == "not_exact"
    assert "row 0, feature 'visits'" in problem.message


@pytest.mark.parametrize("way", [way for way in WAYS if way not in ("CSV", "gRPC") and "binary" not in way])
@pytest.mark.parametrize("value", [None, 7, True, ["a"]])
def test_what_is_no_text_is_refused_alike(way: str, value: Any) -> None:
    problem = refusal(way, [1.5, value, "S", 3, True, "Dr"])
    assert problem.status == 422
    assert problem.code in ("not_a_text", "wrong_type")
    if problem.code == "not_a_text":
        assert "row 0, feature 'note'" in problem.message


@pytest.mark.parametrize("kind", ["FP32", "INT64", "BOOL"])
def test_a_text_sent_as_a_tensor_of_numbers_is_refused(kind: str) -> None:
    tensors = SENDING.tensors([1.5, "a", "S", 3, True, "Dr"])
    tensors[1] |= {"datatype": kind, "data": [1]}
    with pytest.raises(InputFault, match=r"feature 'note': .* where a text belongs"):
        SENDING.posted(OpenInference, {"inputs": tensors})


def test_a_number_declared_as_texts_is_refused() -> None:
    tensors = SENDING.tensors([1.5, "a", "S", 3, True, "Dr"])
    tensors[0] |= {"datatype": "BYTES", "data": ["1.5"]}
    with pytest.raises(InputFault, match=r"feature 'age': the text '1.5' where a number belongs"):
        SENDING.posted(OpenInference, {"inputs": tensors})


def test_a_matrix_of_numbers_is_refused() -> None:
    matrix = {"name": "input", "datatype": "FP32", "shape": [1, 6], "data": [1, 2, 0, 1, 0, 1]}
    with pytest.raises(InputFault) as refused:
        SENDING.posted(OpenInference, {"inputs": [matrix]})
    assert "'note': the number 2 where a text belongs; send a tensor for each feature" in refused.value.message


def test_packed_numbers_are_refused() -> None:
    head = RequestHead(content_type=b"application/octet-stream")
    with pytest.raises(InputFault, match="packed numbers are not understood here") as refused:
        SENDING.posted(Native, b"\0" * 24, head)
    assert problem_of(refused.value).status == 415


def card_of(features: list[Feature]) -> Any:
    example = [SENDING.rows.unbatched(SENDING.rows.join([SENDING.rows.pack([LISTED])], 1))[0]]
    return make_card(format=3, features=features, examples={"rows": example, "scores": [0.5]})


LISTED = [None, "A note.", None, 3, True, ""]


def test_a_remote_version_is_sent_the_same_rows() -> None:
    rows = SENDING.rows.pack([LISTED, [1.5, "東京\0", "elsewhere", -1, False, "Dr"]])
    theirs = input_tensors(card_of(FEATURES))
    described = RemoteModelMetadata(
        [TensorDescription(one.name, one.datatype, list(one.shape)) for one in theirs[::-1]]
    )
    form = agree(card_of(FEATURES), RemoteServerMetadata(), described, None)
    body = write_columns(form, SENDING.rows, SENDING.rows.join([rows], 2))
    assert SENDING.rows.key(SENDING.posted(OpenInference, body)) == SENDING.rows.key(rows)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ([("age", "BYTES")], "where a tensor for each feature belongs, of FP32 for age"),
        ([("note", "FP32")], "of BYTES for note"),
        ([("length", "FP32")], "its model takes 7 inputs"),
    ],
)
def test_a_server_that_takes_other_tensors_is_no_remote_version(changed: list[tuple[str, str]], why: str) -> None:
    taken = {one.name: one.datatype for one in input_tensors(card_of(FEATURES))} | dict(changed)
    described = RemoteModelMetadata([TensorDescription(name, datatype, [-1]) for name, datatype in taken.items()])
    with pytest.raises(Mismatch, match=why):
        agree(card_of(FEATURES), RemoteServerMetadata(), described, None)


def test_the_protocols_example_is_a_request() -> None:
    described = OpenInference(SENDING.rows).describe(card_of(FEATURES)).takes["application/json"]
    for body in described.examples.values():
        assert SENDING.rows.listed(SENDING.posted(OpenInference, body)[0]) == [*LISTED[:3], 3.0, 1.0, ""]
