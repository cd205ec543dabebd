"""Rows survive each API, and bodies say what the contenders' manuals ask for."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from load_tests.bench.contender_api import ContenderApi, Format
from load_tests.bench.pipeline_model import NUMBERS, TEXTS, PipelineModel
from load_tests.bench.reference_model import RANGES, draw_rows


def test_json_instances() -> None:
    api = ContenderApi("/predict")

    assert json.loads(api.encode(np.array([[1.5, 2.0]]))) == {"instances": [[1.5, 2.0]]}
    assert api.decode(b'{"predictions": [0.25, 0.5]}').tolist() == [0.25, 0.5]


@pytest.mark.parametrize("shape", [[2], [2, 1]])
def test_tensors_hold_one_score_a_row(shape: list[int]) -> None:
    api = ContenderApi("/infer", Format.TENSORS)
    tensor = json.loads(api.encode(np.array([[1.5, 2.0]])))["inputs"][0]
    body = json.dumps({"outputs": [{"shape": shape, "data": [0.25, 0.5]}]}).encode()

    assert (tensor["shape"], tensor["data"]) == ([1, 2], [1.5, 2.0])
    assert api.decode(body).tolist() == [0.25, 0.5]


def test_float32_rows_are_little_endian() -> None:
    api = ContenderApi("/predict", Format.FLOAT32, {"X-Model-Version": "v1"})

    assert api.encode(np.array([[1.0]])) == b"\x00\x00\x80\x3f"
    assert api.decode(b"\x00\x00\x80\x3f").tolist() == [1.0]
    assert api.headers["Accept"] == api.headers["Content-Type"] == "application/octet-stream"
    assert api.headers["X-Model-Version"] == "v1"


ROWS: list[dict[str, Any]] = [{"port": None, "age": 40.5}, {"port": "S", "age": None}]


def test_rows_by_name_are_instances_or_records() -> None:
    assert json.loads(ContenderApi("/predict").encode(ROWS)) == {"instances": ROWS}
    api = ContenderApi("/invocations", Format.RECORDS)
    assert json.loads(api.encode(ROWS)) == {"dataframe_records": ROWS}
    assert api.decode(b'{"predictions": [[0.75, 0.25], [0.5, 0.5]]}').tolist() == [0.25, 0.5]


def test_each_feature_has_a_tensor_whose_kind_does_not_depend_on_gaps() -> None:
    api = ContenderApi("/infer", Format.FEATURE_TENSORS, texts=("port",))
    for rows in (ROWS, ROWS[:1]):
        port, age = json.loads(api.encode(rows))["inputs"]
        assert (port["name"], port["datatype"], port["data"]) == ("port", "BYTES", [row["port"] for row in rows])
        assert (age["name"], age["datatype"], age["shape"]) == ("age", "FP64", [len(rows), 1])
    assert api.decode(b'{"outputs": [{"shape": [2, 2], "data": [0.75, 0.25, 0.5, 0.5]}]}').tolist() == [0.25, 0.5]


@pytest.mark.parametrize("body", [b"", b"{}", b'{"predictions": "x"}'])
def test_a_body_without_scores_raises_what_the_check_expects(body: bytes) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        ContenderApi("/predict").decode(body)


def test_rows_are_reproducible_and_within_their_ranges() -> None:
    rows = draw_rows(500, seed=1)

    assert np.array_equal(rows, draw_rows(500, seed=1))
    for column, (low, high, digits) in zip(rows.T, RANGES, strict=True):
        assert low <= column.min() <= column.max() < high
        assert np.allclose(column, column.round(digits))


def test_passengers_are_reproducible_and_have_gaps_and_plain_values() -> None:
    model = PipelineModel(Path())
    rows = model.draw(500, seed=1)

    assert rows == model.draw(500, seed=1) != model.draw(500, seed=2)
    assert {*rows[0]} == {*NUMBERS, *TEXTS}
    assert {type(value) for row in rows for value in row.values()} == {float, str, type(None)}
    assert all(row["port"] is not None for row in rows)
