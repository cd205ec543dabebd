"""Rows survive each dialect, and bodies say what the contenders' manuals ask for."""

import json

import numpy as np
import pytest

from load_tests.bench.dialect import Dialect, Format
from load_tests.bench.model import RANGES, draw_rows


def test_json_instances() -> None:
    dialect = Dialect("/predict")

    assert json.loads(dialect.encode(np.array([[1.5, 2.0]]))) == {"instances": [[1.5, 2.0]]}
    assert dialect.decode(b'{"predictions": [0.25, 0.5]}').tolist() == [0.25, 0.5]


@pytest.mark.parametrize("shape", [[2], [2, 1]])
def test_tensors_hold_one_score_a_row(shape: list[int]) -> None:
    dialect = Dialect("/infer", Format.TENSORS)
    tensor = json.loads(dialect.encode(np.array([[1.5, 2.0]])))["inputs"][0]
    body = json.dumps({"outputs": [{"shape": shape, "data": [0.25, 0.5]}]}).encode()

    assert (tensor["shape"], tensor["data"]) == ([1, 2], [1.5, 2.0])
    assert dialect.decode(body).tolist() == [0.25, 0.5]


def test_float32_rows_are_little_endian() -> None:
    dialect = Dialect("/predict", Format.FLOAT32, {"X-Model-Version": "v1"})

    assert dialect.encode(np.array([[1.0]])) == b"\x00\x00\x80\x3f"
    assert dialect.decode(b"\x00\x00\x80\x3f").tolist() == [1.0]
    assert dialect.headers["Accept"] == dialect.headers["Content-Type"] == "application/octet-stream"
    assert dialect.headers["X-Model-Version"] == "v1"


@pytest.mark.parametrize("body", [b"", b"{}", b'{"predictions": "x"}'])
def test_a_body_without_scores_raises_what_the_check_expects(body: bytes) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        Dialect("/predict").decode(body)


def test_rows_are_reproducible_and_within_their_ranges() -> None:
    rows = draw_rows(500, seed=1)

    assert np.array_equal(rows, draw_rows(500, seed=1))
    for column, (low, high, digits) in zip(rows.T, RANGES, strict=True):
        assert low <= column.min() <= column.max() < high
        assert np.allclose(column, column.round(digits))
