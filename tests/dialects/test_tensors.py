"""Tensors: any datatype and layout gives the rows that numpy would give, and no malformed one gets further."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from runners.inputs.datatypes import DTYPES, to_bytes
from runners.inputs.rows import RowFormat
from shokado.dialects.problem import Problem, problem_of
from shokado.dialects.tensors import Tensor, from_bytes, from_json, from_values, pack_tensors
from tests.support.cards import NAMES
from tests.support.problems import REFUSALS, refused_input
from tests.support.rows import dense_format, text_format

ROW_FORMAT = dense_format(NAMES, max_rows=20, booleans=("height", "depth"))
TRUTHS = dense_format(NAMES, max_rows=20, booleans=NAMES)
TEXTS = text_format("message", max_rows=3, max_text_characters=10)
HUGE = 2**62
Sent = Callable[[str, str, tuple[int, ...], NDArray[Any]], Tensor]


def as_bytes(name: str, datatype: str, shape: tuple[int, ...], values: NDArray[Any]) -> Tensor:
    return from_bytes(name, datatype, shape, memoryview(b"?" + values.tobytes())[1:])


def as_nested(name: str, datatype: str, shape: tuple[int, ...], values: NDArray[Any]) -> Tensor:
    return from_json(name, datatype, shape, values.reshape(shape).tolist())


def as_flat(name: str, datatype: str, shape: tuple[int, ...], values: NDArray[Any]) -> Tensor:
    return from_json(name, datatype, shape, values.ravel().tolist())


def as_values(name: str, datatype: str, shape: tuple[int, ...], values: NDArray[Any]) -> Tensor:
    return from_values(name, datatype, shape, values.ravel().tolist())


FORMS: list[Sent] = [as_bytes, as_nested, as_flat, as_values]


@st.composite
def matrices(draw: st.DrawFn) -> tuple[str, NDArray[Any]]:
    """A datatype and an array of it, of shape (rows, features), whose values float32 can hold."""
    datatype = draw(st.sampled_from(sorted(DTYPES)))
    dtype = np.dtype("?") if datatype == "BOOL" else DTYPES[datatype]
    limits: Any = {"allow_nan": False, "allow_infinity": False} if dtype.kind == "f" else {}
    if datatype == "FP64":
        limits |= {"min_value": -3e38, "max_value": 3e38}
    rows = draw(st.integers(1, 20))
    return datatype, draw(arrays.arrays(dtype, (rows, len(NAMES)), elements=arrays.from_dtype(dtype, **limits)))


@given(matrices(), st.sampled_from(FORMS))
def test_a_matrix_of_any_datatype_gives_the_rows_of_numpy(made: tuple[str, NDArray[Any]], form: Sent) -> None:
    datatype, values = made
    packed, rows = pack_tensors([form("anything", datatype, values.shape, values)], TRUTHS)
    assert rows == len(values)
    assert bytes(packed) == values.astype("<f4").tobytes()


@given(st.data())
def test_columns_of_any_datatypes_give_the_rows_of_numpy(data: st.DataObject) -> None:
    made = [data.draw(matrices()) for _ in NAMES]
    rows = min(len(values) for _, values in made)
    columns = [(datatype, values[:rows, 0].copy()) for datatype, values in made]
    tensors = []
    for name, (datatype, values) in zip(NAMES, columns, strict=True):
        shape = data.draw(st.sampled_from([(rows,), (rows, 1)]))
        tensors.append(data.draw(st.sampled_from(FORMS))(name, datatype, shape, values))
    packed, count = pack_tensors(data.draw(st.permutations(tensors)), TRUTHS)
    assert count == rows
    expected = np.stack([values.astype("<f4") for _, values in columns], axis=1)
    assert bytes(packed) == expected.tobytes()


@given(arrays.arrays("<f4", (2, 3), elements=st.floats(-(2.0**126), 2.0**126, width=32)))
def test_bf16_is_the_upper_half_of_a_float32(values: NDArray[Any]) -> None:
    halves = values.view("<u4") >> 16
    packed, _ = pack_tensors([from_bytes("x", "BF16", (2, 3), halves.astype("<u2").tobytes())], ROW_FORMAT)
    assert bytes(packed) == (halves << 16).tobytes()


def test_a_binary_float32_matrix_is_not_copied() -> None:
    body = np.arange(6, dtype="<f4").tobytes()
    packed, _ = pack_tensors([from_bytes("x", "FP32", (2, 3), memoryview(body))], ROW_FORMAT)
    assert np.shares_memory(np.frombuffer(packed, "<f4"), np.frombuffer(body, "<f4"))


def test_a_binary_truth_value_is_any_byte_but_0() -> None:
    packed, _ = pack_tensors([from_bytes("x", "BOOL", (1, 3), b"\0\1\xff")], TRUTHS)
    assert np.frombuffer(packed, "<f4").tolist() == [0, 1, 1]


@pytest.mark.parametrize("shape", [(2,), (2, 1)])
@pytest.mark.parametrize("name", ["message", "anything"])
def test_texts_come_in_json_and_in_binary(shape: tuple[int, ...], name: str) -> None:
    texts = ["", "\u6771\0\u4eac"]
    for tensor in (
        from_json(name, "BYTES", shape, texts),
        from_bytes(name, "BYTES", shape, to_bytes("BYTES", texts)),
        from_values(name, "BYTES", shape, [text.encode() for text in texts]),
    ):
        assert pack_tensors([tensor], TEXTS) == (texts, 2)


def test_a_model_of_one_feature_takes_a_column_of_any_name() -> None:
    for shape in ((2,), (2, 1)):
        packed, rows = pack_tensors([from_json("x", "FP32", shape, [1, 2])], dense_format(["only"], 5))
        assert (np.frombuffer(packed, "<f4").tolist(), rows) == ([1, 2], 2)


def refused(make: Callable[[], Any], row_format: RowFormat = ROW_FORMAT) -> Problem:
    with refused_input() as caught:
        pack_tensors([make()], row_format)
    return caught.value


@pytest.mark.parametrize("shape", [(HUGE, HUGE), (10**30, 3), (-1, 3), (-1, -6), (), (1,) * 9, (3, 2, 2), (2, 2), (7,)])
@pytest.mark.parametrize("datatype", ["FP32", "BF16", "BOOL", "BYTES"])
def test_a_shape_that_its_data_has_not_is_refused_by_name(datatype: str, shape: tuple[int, ...]) -> None:
    made = {"FP32": bytes(24), "BF16": bytes(12), "BOOL": bytes(6), "BYTES": bytes(24)}[datatype]
    problem = refused(lambda: from_bytes("width", datatype, shape, made))
    assert (problem.status, problem.detail) == (400, {"input": "width"})
    assert "'width'" in problem.message
    if datatype not in ("BYTES", "BF16"):
        assert refused(lambda: from_json("width", datatype, shape, [1] * 6)).status == 400


@pytest.mark.parametrize(
    "data",
    [
        [[1, 2, 3], [4, 5, 6, 7]],
        [[1, 2, 3, 4], [5, 6]],
        [[1, 2, 3]],
        [[1, 2, 3], 4, 5, 6],
        [[[1], [2], [3]], [[4], [5]]],
        [[]],
        [[[1, 2, 3], [4, 5, 6]]],
    ],
)
def test_data_nested_otherwise_than_its_shape_is_refused(data: list[Any]) -> None:
    problem = refused(lambda: from_json("x", "FP32", (2, 3), data))
    assert problem.status == 400
    assert "nested otherwise" in problem.message or "there are" in problem.message


@pytest.mark.parametrize(
    ("datatype", "value", "code", "says"),
    [
        ("FP32", None, "not_a_number", "row 1, feature 'width': null"),
        ("FP32", "1", "not_a_number", "row 1, feature 'width': the text '1'"),
        ("FP32", True, "not_a_number", "row 1, feature 'width': true"),
        ("INT8", False, "not_a_number", "row 1, feature 'width': false"),
        ("FP64", [5], "not_a_number", "row 1, feature 'width': a list"),
        ("FP32", 3.5e38, "not_finite", "beyond the range of float32"),
        ("FP64", -1e39, "not_finite", "beyond the range of float32"),
        ("FP64", 10**400, "not_finite", "row 1, feature 'width'"),
        ("FP16", 70_000, "not_finite", "infinite"),
        ("UINT8", 256, "wrong_type", "256 is no UINT8"),
        ("INT64", 2**63, "wrong_type", "is no INT64"),
        ("UINT64", -1, "wrong_type", "-1 is no UINT64"),
        ("INT32", 1.5, "wrong_type", "1.5 is no INT32"),
        ("BOOL", 2, "wrong_type", "2 is no BOOL"),
        ("BOOL", 0.5, "wrong_type", "0.5 is no BOOL"),
        ("BYTES", "1", "not_a_number", "row 0"),
    ],
)
def test_a_value_that_does_not_belong_is_told_where_it_is(datatype: str, value: Any, code: str, says: str) -> None:
    data = [0, 0, 0, 0, value, 0] if datatype != "BYTES" else ["0"] * 6
    problem = refused(lambda: from_json("x", datatype, (2, 3), data))
    assert (problem.status, problem.code) == (422, code)
    assert says in problem.message


def test_a_value_of_a_column_is_told_by_row_and_feature() -> None:
    for value, says in ((1e39, "beyond the range of float32"), (None, "null"), (float("nan"), "NaN")):
        columns = [
            from_json("height", "BOOL", (2,), [True, False]),
            from_json("width", "FP64", (2, 1), [[0.5], [value]]),
            from_json("depth", "INT8", (2,), [1, 2]),
        ]
        with refused_input(f"row 1, feature 'width': .*{says}"):
            pack_tensors(columns, ROW_FORMAT)


def column(name: str, shape: tuple[int, ...] = (2,)) -> Tensor:
    return from_bytes(name, "INT8", shape, bytes(np.prod(shape)))


@pytest.mark.parametrize(
    ("tensors", "status", "says"),
    [
        ([], 422, "no input tensors"),
        ([column("height"), column("width")], 422, "feature 'depth' is missing"),
        ([column("height"), column("width"), column("colour")], 422, "'colour' is no feature"),
        ([column("height"), column("width"), column("depth"), column("depth")], 400, "same name"),
        ([column("height"), column("width"), column("depth", (3,))], 422, r"'depth' has shape \[3\]"),
        ([column("height"), column("width"), column("depth", (1, 2))], 422, r"'depth' has shape \[1, 2\]"),
        ([column("height", (3,))], 422, r"\[rows, 3\] belongs here"),
        ([column("height", (2, 4))], 422, r"\[rows, 3\] belongs here"),
        ([column("x", (0, 3))], 422, "no rows"),
        ([column("x", (21, 3))], 413, "at most 20"),
        ([column("height", (21,)), column("width", (21,)), column("depth", (21,))], 413, "at most 20"),
    ],
)
def test_tensors_that_are_no_rows_are_refused(tensors: list[Tensor], status: int, says: str) -> None:
    with refused_input(says) as caught:
        pack_tensors(tensors, ROW_FORMAT)
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"\1\0\0\0", "element 0"),
        (b"\1\0\0\0a\1\0", "element 1"),
        (b"\xff\xff\xff\xffa", "element 0"),
        (b"\1\0\0\0\xff\0\0\0\0", "element 0 is not UTF-8"),
        (b"\0\0\0\0", "there are 1 values"),
        (b"", "there are 0 values"),
    ],
)
def test_binary_texts_that_do_not_add_up_are_refused(data: bytes, says: str) -> None:
    problem = refused(lambda: from_bytes("message", "BYTES", (2,), data), TEXTS)
    assert problem.status == 400
    assert says in problem.message


def test_a_text_model_refuses_what_is_no_text_or_too_much_of_it() -> None:
    number = refused(lambda: from_json("message", "FP32", (2,), [1, 2]), TEXTS)
    assert (number.code, number.detail["row"]) == ("not_a_text", 0)
    for shape in ((2,), (2, 1)):
        truth = refused(partial(from_json, "message", "BOOL", shape, [True, False]), TEXTS)
        assert (truth.code, truth.detail) == ("not_a_text", {"row": 0, "feature": "message"})
    assert refused(lambda: from_json("message", "BYTES", (2,), ["a", 1]), TEXTS).detail["row"] == 1
    assert refused(lambda: from_json("message", "BYTES", (1,), ["a" * 11]), TEXTS).code == "text_too_long"
    assert refused(lambda: from_json("message", "BYTES", (4,), ["a"] * 4), TEXTS).status == 413


@pytest.mark.parametrize("datatype", ["FP8", "", "fp32", "\ud800", "x" * 1000])
def test_an_unknown_datatype_is_refused_with_the_known_ones(datatype: str) -> None:
    for make in (lambda: from_bytes("x", datatype, (1,), b"?"), lambda: from_json("x", datatype, (1,), [1])):
        problem = refused(make)
        assert (problem.status, "UINT16" in problem.message) == (400, True)
        problem.body("r")


def rows_or_problem(make: Callable[[], Tensor], row_format: RowFormat) -> list[int] | int:
    """How many rows there are, in a list, or the problem's status."""
    try:
        return [pack_tensors([make()], row_format)[1]]
    except REFUSALS as refused:
        problem = problem_of(refused)
        problem.body("can be told")
        return problem.status


@given(
    st.sampled_from([*DTYPES, "BF16", "BYTES"]),
    st.lists(st.one_of(st.integers(-3, 4), st.integers(), st.just(HUGE)), max_size=4),
    st.binary(max_size=60),
)
def test_any_binary_data_is_rows_or_a_problem(datatype: str, shape: list[int], data: bytes) -> None:
    for row_format in (ROW_FORMAT, TEXTS):
        outcome = rows_or_problem(lambda: from_bytes("x", datatype, shape, data), row_format)
        assert outcome in (shape[:1], 400, 413, 422)


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=3)),
    lambda inner: st.lists(inner, max_size=4),
)


@given(
    st.sampled_from([*DTYPES, "BF16", "BYTES"]),
    st.lists(st.integers(-1, 4), max_size=4),
    st.lists(json_values, max_size=12),
)
def test_any_json_data_is_rows_or_a_problem(datatype: str, shape: list[int], data: list[Any]) -> None:
    for row_format in (ROW_FORMAT, TEXTS):
        outcome = rows_or_problem(lambda: from_json("x", datatype, shape, data), row_format)
        assert outcome in (shape[:1], 400, 413, 422)


@pytest.mark.parametrize("data", [["1", "2"], [1, 2], ["a", "b"]], ids=str)
def test_texts_are_not_read_as_numbers(data: list[Any]) -> None:
    says = "where a number belongs; send a tensor of numbers, such as FP32, not BYTES"
    for inputs, feature in (
        ([from_json("x", "BYTES", [1, 2], data)], "height"),
        ([from_json("height", "FP32", [1], [1]), from_json("width", "BYTES", [1], data[:1])], "width"),
    ):
        with refused_input(says) as refused:
            pack_tensors(inputs, dense_format(["height", "width"], max_rows=3))
        assert refused.value.detail == {"row": 0, "feature": feature}


def test_a_number_of_another_datatype_is_told_by_row_and_column() -> None:
    for shape, says in (([2, 2], "input 'x', row 1, column 0: 1.5 is no INT32"), ([4], "row 2: 1.5 is no INT32; send")):
        with refused_input(says):
            from_json("x", "INT32", shape, [1, 2, 1.5, 3])
