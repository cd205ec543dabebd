"""Rows of every form, as they are sent."""

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from shokado.client.prediction_body import JSON, PACKED, prediction_body


@pytest.mark.parametrize(
    ("rows", "instances"),
    [
        ([[1, 2.5], [True, None]], [[1, 2.5], [True, None]]),
        (([1],), [[1]]),
        (({"a": n} for n in range(2)), [{"a": 0}, {"a": 1}]),
        ([[np.float32(0.5), np.int64(3), np.bool_(True)]], [[0.5, 3, True]]),
        ([np.array([1, 2])], [[1, 2]]),
        (["a text", "中"], ["a text", "中"]),
        (pd.Series(["a text", "another"]), ["a text", "another"]),
        (np.array(["a text"]), ["a text"]),
        (np.array([["red", 1]], object), [["red", 1]]),
        (pd.DataFrame({"text": ["a text"]}), [{"text": "a text"}]),
        (pd.DataFrame({"a": [1], "b": [0.5], "c": [True]}), [{"a": 1, "b": 0.5, "c": True}]),
        (np.array([1.0, 2.0]), [1.0, 2.0]),
        ([], []),
    ],
)
def test_rows_that_are_said_in_json(rows: Any, instances: list[Any]) -> None:
    body = prediction_body(rows)
    assert (json.loads(body.content), body.content_type, body.rows) == ({"instances": instances}, JSON, len(instances))


@pytest.mark.parametrize("kind", ["<f8", ">f4", "<f2", "i8", "u1", "?"])
def test_a_table_of_numbers_is_packed(kind: str) -> None:
    table = np.array([[1, 0], [0, 1], [1, 1]], kind)
    for rows in (table, np.asfortranarray(table), np.repeat(table, 2, axis=0)[::2]):
        body = prediction_body(rows)
        assert (body.content_type, body.rows) == (f"{PACKED}; dtype=float32; columns=2", 3)
        assert np.frombuffer(body.content, "<f4").tolist() == [1, 0, 0, 1, 1, 1]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([[0.5, np.nan]], "<f4"),
        ([[0.1, 1]], "<f8"),
        ([[1.7e9 + 1, 1]], "<f8"),
        ([[2**24 + 1, 1]], "<i8"),
        ([[0.5, np.nan]], "<f8"),
        ([[3e38, 1e300]], "<f8"),
    ],
)
def test_a_table_is_packed_without_a_loss(values: list[list[float]], kind: str) -> None:
    table = np.array(values, kind)
    with np.errstate(over="ignore"):
        body = prediction_body(table)
    dtype = body.content_type.removeprefix(f"{PACKED}; dtype=").removesuffix("; columns=2")
    np.testing.assert_array_equal(np.frombuffer(body.content, dtype).reshape(table.shape), table)


def test_a_unit_is_named_where_there_is_a_place_for_it() -> None:
    assert json.loads(prediction_body([[1]], "user-1").content) == {"instances": [[1]], "unit": "user-1"}
    assert prediction_body(np.ones((1, 1)), "user-1").is_packed


def test_what_is_missing_is_null() -> None:
    frame = pd.DataFrame({"age": [1.5, np.nan], "port": pd.Series(["S", pd.NA], dtype="string")})
    instances = [{"age": 1.5, "port": "S"}, {"age": None, "port": None}]
    assert json.loads(prediction_body(frame).content) == {"instances": instances}
    assert json.loads(prediction_body([[np.nan, "S"]]).content) == {"instances": [[None, "S"]]}


@pytest.mark.parametrize("row", ["text", b"text", {"a": 1}])
def test_one_row_is_no_list_of_rows(row: Any) -> None:
    with pytest.raises(TypeError, match="put the row in a list"):
        prediction_body(row)


@pytest.mark.parametrize("value", [pd.Timestamp("2026-01-01"), {1}, object()])
def test_what_json_cannot_say_is_named(value: Any) -> None:
    with pytest.raises(TypeError, match="cannot be sent"):
        prediction_body([[value]])
