"""What is counted of a message before it is parsed."""

import contextlib

import pytest

from shokado.dialects.problem import Problem
from shokado.transports.grpc import open_inference_pb2 as messages
from shokado.transports.grpc.wire import LONG_BYTES, refuse_excess
from tests.support.rows import dense_format
from tests.transports.worst_shapes import field, message_shapes

NAMES = ("a", "b", "c")
ROWS = 4_000
FIELDS = 1_000 + 16 * len(NAMES)
ROW_FORMAT = dense_format(NAMES, ROWS)
CONTENTS = {
    "bool_contents": True, "int_contents": 2**30, "int64_contents": 2**60, "uint_contents": 2**31,
    "uint64_contents": 2**63, "fp32_contents": 0.5, "fp64_contents": 0.5, "bytes_contents": b"ab",
}  # fmt: skip


def message(contents: str, count: int) -> bytes:
    tensor = {"name": "x" * LONG_BYTES, "shape": [ROWS, 3], "contents": {contents: [CONTENTS[contents]] * count}}
    return bytes(messages.ModelInferRequest(inputs=[tensor]).SerializeToString())


@pytest.mark.parametrize("contents", CONTENTS)
def test_as_many_values_as_all_rows_have_are_let_through_and_no_more(contents: str) -> None:
    refuse_excess(message(contents, ROWS * len(NAMES)), ROW_FORMAT)
    with pytest.raises(Problem, match="more than 12000 values") as caught:
        refuse_excess(message(contents, ROWS * len(NAMES) + 1), ROW_FORMAT)
    assert (caught.value.status, caught.value.detail) == (413, {"limit": 12_000})


def test_values_one_by_one_and_of_several_tensors_count_together() -> None:
    contents = field(5, b"\x18\1" * 6_000)
    refuse_excess(field(5, contents) * 2, ROW_FORMAT)
    with pytest.raises(Problem, match="values"):
        refuse_excess(field(5, contents) * 2 + field(5, field(5, b"\x18\1")), ROW_FORMAT)


def test_raw_contents_are_as_long_as_they_are() -> None:
    refuse_excess(field(5, field(1, b"x")) + field(7, bytes(2**20)), ROW_FORMAT)


@pytest.mark.parametrize("number", [4, 5, 6, 7])
def test_as_many_fields_as_a_request_may_have_are_let_through_and_no_more(number: int) -> None:
    padding = field(1, bytes(LONG_BYTES))
    refuse_excess(padding + field(number, b"") * (FIELDS - 1), ROW_FORMAT)
    with pytest.raises(Problem, match=f"more than {FIELDS} fields"):
        refuse_excess(padding + field(number, b"") * FIELDS, ROW_FORMAT)


def test_what_ends_too_soon_is_left_to_the_parser() -> None:
    for _, shape in message_shapes(2**15):
        for end in (len(shape), len(shape) - 1, LONG_BYTES + 1):
            with contextlib.suppress(Problem):
                refuse_excess(shape[:end], ROW_FORMAT)
