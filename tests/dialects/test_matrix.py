"""Large bodies are read another way than small ones, and come to the same."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runners.inputs.dense import DenseRows
from runners.inputs.matrix import read_rows, read_tensor
from shokado.dialects import open_inference
from shokado.dialects.batch import Batch
from shokado.dialects.dialect import Dialect
from shokado.dialects.head import RequestHead
from shokado.dialects.kserve_v1 import KServeV1
from shokado.dialects.mlflow import MLflow
from shokado.dialects.native import Native
from shokado.dialects.open_inference import OpenInference
from shokado.dialects.problem import problem_of
from tests.support.cards import NAMES
from tests.support.problems import REFUSALS
from tests.support.rows import dense_format

HEAD = RequestHead()
ROW_FORMAT = dense_format(NAMES, max_rows=50)

numbers = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(width=32, allow_nan=False, allow_infinity=False),
    st.integers(-(2**70), 2**70),
    st.integers(-5, 5),
    st.sampled_from([3.4028235e38, 3.4028236e38, -1e39, 1e-46, 5e-324, 2**53 + 1, 2**64 - 1, 2**64, -(2**63) - 1]),
)
anything: st.SearchStrategy[Any] = st.one_of(
    numbers, st.none(), st.booleans(), st.sampled_from(["", "1", "[1,2,3]", ","]), st.just([])
)
good_rows = st.lists(st.lists(numbers, min_size=3, max_size=3), max_size=60)
bad_rows = st.lists(
    st.one_of(st.lists(anything, min_size=2, max_size=4), st.just([[1, 2, 3]]), st.just({"a": 1}), anything), max_size=6
)
layouts = st.sampled_from([{}, {"indent": 1}, {"separators": (",", ":")}, {"separators": (" ,\t", "\n:\r ")}])
BODIES: dict[str, tuple[type[Dialect], Callable[[list[Any]], Any]]] = {
    "native": (Native, lambda rows: {"instances": rows, "version": "v2", "unit": "u"}),
    "native, a field too many": (Native, lambda rows: {"instances": rows, "versoin": "v2"}),
    "batch": (Batch, lambda rows: {"use_ab_testing": False, "instances": rows}),
    "kserve": (KServeV1, lambda rows: {"instances": rows, "other": {"instances": []}}),
    "mlflow instances": (MLflow, lambda rows: {"instances": rows}),
    "mlflow inputs": (MLflow, lambda rows: {"inputs": rows, "params": {}}),
    "mlflow method": (MLflow, lambda rows: {"instances": rows, "params": {"predict_method": "predict_proba"}}),
    "mlflow other method": (MLflow, lambda rows: {"instances": rows, "params": {"predict_method": "transform"}}),
    "mlflow split": (MLflow, lambda rows: {"dataframe_split": {"data": rows}}),
    "mlflow named": (MLflow, lambda rows: {"dataframe_split": {"columns": NAMES, "data": rows}}),
    "mlflow turned": (MLflow, lambda rows: {"dataframe_split": {"columns": NAMES[::-1], "data": rows}}),
    "mlflow two": (MLflow, lambda rows: {"instances": rows, "inputs": rows}),
    "mlflow null": (MLflow, lambda rows: {"instances": rows, "inputs": None}),
    "open inference": (OpenInference, lambda rows: tensor([len(rows), 3], rows)),
    "open inference, flat": (OpenInference, lambda rows: tensor([len(rows), 3], flat(rows), "FP64")),
    "open inference, of integers": (OpenInference, lambda rows: tensor([len(rows), 3], rows, "INT64")),
    "open inference, another shape": (OpenInference, lambda rows: tensor([3, len(rows)], rows)),
    "open inference, huge": (OpenInference, lambda rows: tensor([10**12, 10**12], rows)),
}


def tensor(shape: list[int], data: list[Any], datatype: str = "FP32") -> Any:
    return {"id": "7", "inputs": [{"name": "input", "datatype": datatype, "shape": shape, "data": data}]}


def flat(rows: list[Any]) -> list[Any]:
    return [value for row in rows for value in (row if isinstance(row, list) else [row])]


def outcome(dialect: Dialect, body: bytes) -> Any:
    try:
        request = dialect.decode(body, HEAD)
    except REFUSALS as refused:
        problem = problem_of(refused)
        return problem.status, problem.code, problem.message, problem.detail
    rows = np.frombuffer(request.rows, "<f4").tolist()
    return rows, request.row_count, request.version, request.unit, request.split, request.answer_options


def both_ways(make: type[Dialect], body: bytes) -> tuple[Any, Any]:
    dialect = make(ROW_FORMAT)
    with pytest.MonkeyPatch.context() as patch:
        outcomes = []
        for least in (0, 2**62):
            patch.setattr(DenseRows, "large_bytes", least)
            outcomes.append(outcome(dialect, body))
    return outcomes[0], outcomes[1]


@pytest.mark.parametrize("kind", BODIES)
@given(rows=st.one_of(good_rows, bad_rows), layout=layouts)
def test_large_bodies_come_to_the_same_as_small_ones(kind: str, rows: list[Any], layout: dict[str, Any]) -> None:
    make, body = BODIES[kind]
    large, small = both_ways(make, json.dumps(body(rows), **layout).encode())
    assert large == small


@pytest.mark.parametrize(
    "text",
    [
        "[[1,2,3],[4,5,6]",
        "[[1,2,3],[4,5,6]]]",
        "[[1,2,3][4,5,6]]",
        "[[1,2,3],[4,5]]",
        "[[1,2,3],[4,5,6,7]]",
        "[[1,2],[3,4,5,6]]",
        "[[1,[2],3],[4,5,6]]",
        "[[1,2,3],4,5,6]",
        "[[1,2,],[4,5,6]]",
        "[[1,,3],[4,5,6]]",
        "[[1,2,3 4],[4,5,6]]",
        "[[1,2,03],[4,5,6]]",
        "[[1,2,+3],[4,5,6]]",
        "[[1,2,3.],[4,5,6]]",
        "[[1,2,.3],[4,5,6]]",
        "[[1,2,3e],[4,5,6]]",
        "[[1,2,1e400],[4,5,6]]",
        "[[1,2,NaN],[4,5,6]]",
        "[[1,2,0x3],[4,5,6]]",
        "[[1,2,'3'],[4,5,6]]",
        "[[1,2,3],[4,5,6]],",
        "{}",
        "null",
        "",
        "[",
        "[[[1,2,3]]]",
        "[],[]",
        "[]",
        "[[],[],[]]",
    ],
)
def test_what_is_no_matrix_is_left_to_the_slow_way(text: str) -> None:
    assert read_rows(text.encode(), 3) is None
    assert read_tensor(text.encode(), [2, 3]) is None
    instance = b'{"instances":' + text.encode() + b"}"
    large, small = both_ways(Native, instance)
    assert large == small


@pytest.mark.parametrize("text", ["[]", "[[]]", "[[],[]]", "[[ ] , [ ]]", "[ , ]"])
def test_nothing_is_no_row(text: str) -> None:
    assert read_rows(text.encode(), 1) is None


def test_a_matrix_is_read_exactly() -> None:
    values = np.random.default_rng(1).normal(size=(40, 3)) * 10.0 ** np.arange(-60, 60).reshape(40, 3)
    text = json.dumps(values.tolist(), indent=2).encode()
    assert (read_rows(text, 3) == values).all()  # type: ignore[union-attr]
    assert (read_tensor(text, [40, 3]) == values.ravel()).all()  # type: ignore[union-attr]
    of_one = json.dumps(values.ravel().tolist()).encode()
    assert (read_tensor(of_one, [40, 3]) == values.ravel()).all()  # type: ignore[union-attr]
    assert read_tensor(of_one, [3, 40]) is not None
    for shape in ([40, 4], [0, 120], [-40, -3], [120, 0]):
        assert read_tensor(of_one, shape) is None


def test_a_shape_that_says_more_than_there_is_costs_nothing() -> None:
    assert read_tensor(b"[1,2,3,4]", [10**9, 10**9]) is None


LARGE = [
    "native",
    "batch",
    "kserve",
    "mlflow instances",
    "mlflow inputs",
    "mlflow split",
    "mlflow named",
    "open inference",
    "open inference, flat",
]


@pytest.mark.parametrize("kind", LARGE)
def test_a_large_body_is_not_read_the_slow_way(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(*_: object) -> None:
        raise AssertionError("the slow way")

    monkeypatch.setattr(DenseRows, "pack", slow)
    monkeypatch.setattr(open_inference, "from_json", slow)
    make, body = BODIES[kind]
    dialect = make(dense_format(NAMES, max_rows=1_000))
    small, large = (json.dumps(body([[1.5, -2.0, 3.25e2]] * rows)).encode() for rows in (10, 1_000))
    assert dialect.decode(large, HEAD).row_count == 1_000
    with pytest.raises(AssertionError, match="the slow way"):
        dialect.decode(small, HEAD)
