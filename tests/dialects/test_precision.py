"""Whole numbers in every dialect: packed as they were sent, in the precision of the model, or refused alike."""

import json
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from runners.inputs.datatypes import DTYPES
from runners.inputs.faults import InputFault
from runners.inputs.formats import row_format_of
from runners.inputs.matrix import LARGE_BYTES
from runners.inputs.precision import FLOAT64
from runners.inputs.rows import RowFormat
from runners.inputs.schema import Feature
from shokado.dialects.batch import Batch
from shokado.dialects.head import RequestHead, read_head
from shokado.dialects.kserve_v1 import KServeV1
from shokado.dialects.mlflow import MLflow
from shokado.dialects.native import Native
from shokado.dialects.open_inference import OpenInference
from shokado.dialects.problem import Problem
from shokado.dialects.single import Single
from shokado.transports.grpc import open_inference_pb2 as messages
from shokado.transports.grpc.codec import ModelInfer
from tests.support.cards import make_card

NAMES = ["weight", "count"]
JSON, CSV = RequestHead(content_type=b"application/json"), RequestHead(content_type=b"text/csv")
BINARY = b"application/octet-stream"


def row_format(wide: bool, typed: bool = False) -> RowFormat:
    precision: Any = "float64" if wide else "float32"
    features = [
        Feature(name="weight", precision=precision),
        Feature(name="count", type="integer", precision=precision, nullable=typed),
    ]
    return row_format_of(features)


FORMATS = {
    "float32": row_format(wide=False),
    "float64": row_format(wide=True),
    "float32, typed": row_format(wide=False, typed=True),
    "float64, typed": row_format(wide=True, typed=True),
}
Row = list[Any]


def posted(kind: Any, body: Any, head: RequestHead = JSON) -> Callable[[RowFormat, Row], Any]:
    def post(rows: RowFormat, row: Row) -> Any:
        content = body(row)
        return kind(rows).decode(content if isinstance(content, bytes) else json.dumps(content).encode(), head).rows

    return post


def named(row: Row) -> dict[str, Any]:
    return dict(zip(NAMES, row, strict=True))


def columns(row: Row, datatype: str = "INT64") -> list[dict[str, Any]]:
    kinds = ("FP64", datatype)
    return [
        {"name": name, "datatype": kind, "shape": [1], "data": [value]}
        for name, kind, value in zip(NAMES, kinds, row, strict=True)
    ]


def in_binary(datatypes: list[str]) -> Callable[[RowFormat, Row], Any]:
    """One matrix, or a tensor for each feature."""

    def post(rows: RowFormat, row: Row) -> Any:
        if len(datatypes) == 1:
            parts = [("input", [1, 2], datatypes[0], np.array(row, DTYPES[datatypes[0]]).tobytes())]
        else:
            parts = [
                (name, [1], kind, np.array([value], DTYPES[kind]).tobytes())
                for name, kind, value in zip(NAMES, datatypes, row, strict=True)
            ]
        inputs = [
            {"name": name, "shape": shape, "datatype": kind, "parameters": {"binary_data_size": len(data)}}
            for name, shape, kind, data in parts
        ]
        text = json.dumps({"inputs": inputs}).encode()
        head = RequestHead(content_type=BINARY, json_bytes=len(text))
        return OpenInference(rows).decode(text + b"".join(part[-1] for part in parts), head).rows

    return post


def over_grpc(raw: bool) -> Callable[[RowFormat, Row], Any]:
    def post(rows: RowFormat, row: Row) -> Any:
        request = messages.ModelInferRequest(model_name="m")
        fields = ("fp64_contents", "int64_contents")
        for one, field, letter in zip(columns(row), fields, "dq", strict=True):
            contents = {} if raw else {field: one["data"]}
            request.inputs.add(name=one["name"], datatype=one["datatype"], shape=[1], contents=contents)
            if raw:
                request.raw_input_contents.append(struct.pack(f"<{letter}", *one["data"]))
        return ModelInfer(rows, request).decode(b"", JSON).rows

    return post


def packed_as_float64(rows: RowFormat, row: Row) -> Any:
    head = read_head([(b"content-type", b"application/octet-stream; dtype=float64")])
    return Native(rows).decode(np.array(row, "<f8").tobytes(), head).rows


def first_of_many(rows: RowFormat, row: Row) -> Any:
    """A body that is read without an object for each number."""
    body = json.dumps({"instances": [row] * LARGE_BYTES}).encode()
    return bytes(rows.part(Native(rows).decode(body, JSON).rows, 0, 1))


WAYS: dict[str, Callable[[RowFormat, Row], Any]] = {
    "native, a list": posted(Native, lambda row: {"instances": [row]}),
    "native, by name": posted(Native, lambda row: {"instances": [named(row)]}),
    "native, many": first_of_many,
    "native, packed": packed_as_float64,
    "one row, a list": posted(Single, lambda row: {"features": row}),
    "one row, by name": posted(Single, lambda row: {"features": named(row)}),
    "a batch": posted(Batch, lambda row: {"instances": [row]}),
    "KServe v1": posted(KServeV1, lambda row: {"instances": [row]}),
    "MLflow, split": posted(MLflow, lambda row: {"dataframe_split": {"columns": NAMES, "data": [row]}}),
    "MLflow, records": posted(MLflow, lambda row: {"dataframe_records": [named(row)]}),
    "MLflow, instances": posted(MLflow, lambda row: {"instances": [row]}),
    "MLflow, columns": posted(MLflow, lambda row: {"inputs": {name: [value] for name, value in named(row).items()}}),
    "CSV": posted(MLflow, lambda row: f"{','.join(NAMES)}\n{row[0]},{row[1]}\n".encode(), CSV),
    "Open Inference, a matrix": posted(
        OpenInference,
        lambda row: {"inputs": [{"name": "input", "datatype": "FP64", "shape": [1, 2], "data": row}]},
    ),
    "Open Inference, columns": posted(OpenInference, lambda row: {"inputs": columns(row)}),
    "Open Inference, binary columns": in_binary(["FP64", "INT64"]),
    "Open Inference, a binary matrix": in_binary(["FP64"]),
    "gRPC": over_grpc(raw=False),
    "gRPC, raw": over_grpc(raw=True),
}


AS_FLOAT64 = ("native, packed", "Open Inference, a matrix", "Open Inference, a binary matrix")
"""Ways in which a client rounds a number itself, or says that it is a float64."""


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", FORMATS)
def test_whole_numbers_that_can_be_told_apart_are_packed_as_they_are(way: str, kind: str) -> None:
    rows, counts = FORMATS[kind], [0, -3, 2**24 - 1, 2**24, 2**24 + 2, -(2**40)]
    if "64" in kind:
        counts += [2**24 + 1, 1_700_000_001, -(2**53) + 1, 2**53 - 1]
    for count in counts:
        given = [0.1, count]
        np.testing.assert_array_equal(np.frombuffer(WAYS[way](rows, given), rows.dtype), np.array(given, rows.dtype))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", FORMATS)
def test_others_are_refused(way: str, kind: str) -> None:
    limit = 2**53 - 1 if "64" in kind else 2**24
    wrong = [2**53, -(2**53) - 1, 2**62] if "64" in kind else [2**24 + 1, -(2**24) - 1, 1_700_000_001, 2**53 + 1]
    for count in wrong:
        with pytest.raises((InputFault, Problem)) as refused:
            WAYS[way](FORMATS[kind], [0.5, count])
        fault: Any = refused.value
        assert fault.code == "not_exact", (way, kind, count)
        assert fault.detail == {"row": 0, "feature": "count", "limit": limit}
        assert "row 0, feature 'count': " in fault.message
        assert f"would be rounded; the model takes whole numbers as {kind[:7]}" in fault.message


@pytest.mark.parametrize("way", [way for way in WAYS if way not in AS_FLOAT64])
@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("count", [2**53 + 1, -(2**60) - 1, 10**18 + 9])
def test_the_number_is_named_as_it_was_sent(way: str, kind: str, count: int) -> None:
    with pytest.raises((InputFault, Problem), match=f"row 0, feature 'count': {count} would be rounded"):
        WAYS[way](FORMATS[kind], [0.5, count])


@pytest.mark.parametrize("datatype", ["INT32", "UINT32", "INT64", "UINT64"])
def test_tensors_of_whole_numbers_are_looked_at_in_their_own_type(datatype: str) -> None:
    with pytest.raises(InputFault, match=r"row 0, feature 'count': 16777217 would be rounded"):
        in_binary([datatype])(FORMATS["float32"], [1, 2**24 + 1])
    for kind in ("float64", "float64, typed"):
        packed = in_binary([datatype])(FORMATS[kind], [1, 2**24 + 1])
        assert np.frombuffer(packed, "<f8").tolist() == [1, 2**24 + 1]


@pytest.mark.parametrize("kind", FORMATS)
def test_other_columns_may_be_large(kind: str) -> None:
    """Only of whole numbers nobody expects that they are rounded."""
    for way, send in WAYS.items():
        if "INT64" not in way:
            found = np.frombuffer(send(FORMATS[kind], [1e30, 3]), FORMATS[kind].dtype)
            np.testing.assert_array_equal(found, np.array([1e30, 3], FORMATS[kind].dtype))


def test_the_first_wrong_row_is_named() -> None:
    for way in (Native, KServeV1):
        body = json.dumps({"instances": [[1e30, 1], [1, 2**24 + 2], [1, 2**24 + 1], [1, 2**24 + 3]]}).encode()
        with pytest.raises(InputFault) as refused:
            way(FORMATS["float32"]).decode(body, JSON)
        assert refused.value.row == 2
    values = np.array([[1, 1], [1, 2**24 + 2], [1, 2**24 + 1]], "<i8")
    for kind in ("float32", "float32, typed"):
        with pytest.raises(InputFault, match="row 2, feature 'count': 16777217 would"):
            FORMATS[kind].pack_array(values)


def test_a_missing_whole_number_is_none() -> None:
    for kind in ("float32, typed", "float64, typed"):
        rows = FORMATS[kind]
        for values in (np.array([[1.5, np.nan]]), np.array([[1.5, None]], object)):
            np.testing.assert_array_equal(np.frombuffer(rows.pack_array(values), rows.dtype), [1.5, np.nan])


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("sent_as", ["float32", "float64"])
def test_packed_rows_may_say_their_precision(kind: str, sent_as: str) -> None:
    rows, values = FORMATS[kind], np.array([[0.5, 2], [1.5, 2**24 + 2]], sent_as)
    head = read_head([(b"content-type", f'Application/Octet-Stream; charset=x; dtype="{sent_as}"'.encode())])
    request = Native(rows).decode(values.tobytes(), head)
    np.testing.assert_array_equal(np.frombuffer(request.rows, rows.dtype).reshape(2, 2), values)
    assert request.row_count == 2
    whole = read_head([*[(b"content-type", b"application/octet-stream")], (b"inference-header-content-length", b"0")])
    own = values.astype(rows.dtype).tobytes()
    assert Native(rows).decode(own, RequestHead(content_type=BINARY)).rows == own
    assert OpenInference(rows).decode(own, whole).rows == own
    with pytest.raises(InputFault, match="not a whole number of rows"):
        Native(rows).decode(values.tobytes()[:-4], head)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("dtype=int8", "dtype='int8' of the content type is not understood; float32 and float64 are, or none"),
        ("columns=ten", "columns='ten' of the content type is not understood; a number of columns is, or none"),
        (
            "dtype=float32; columns=0",
            "columns='0' of the content type is not understood; a number of columns is, or none",
        ),
    ],
)
def test_what_a_content_type_cannot_say_is_not_understood(said: str, message: str) -> None:
    problem = read_head([(b"content-type", f"application/octet-stream; {said}".encode())]).problem
    assert problem is not None
    assert (problem.code, problem.message) == ("unsupported_media_type", message)


@pytest.mark.parametrize("kind", FORMATS)
def test_packed_rows_may_say_their_width(kind: str) -> None:
    rows = FORMATS[kind]
    body = np.zeros((3, 2), rows.dtype).tobytes()
    right, wrong = (read_head([(b"content-type", b"application/octet-stream; columns=%d" % width)]) for width in (2, 3))
    assert Native(rows).decode(body, right).row_count == 3
    with pytest.raises(InputFault, match="the packed rows have 3 columns; the model takes 2") as refused:
        Native(rows).decode(body, wrong)
    assert (refused.value.code, refused.value.detail) == ("wrong_feature_count", {"expected": 2, "got": 3})


def test_rows_of_float64_stay_so_on_their_way() -> None:
    features = [{"name": "weight", "precision": "float64"}, {"name": "count", "type": "integer"}]
    examples = {"rows": [[0.1, 1_700_000_001.0]], "scores": [0.5]}
    card = make_card(format=3, features=features, examples=examples)
    rows, values = card.row_format, np.array([[0.1, 1_700_000_001], [0.2, 3]])
    assert (card.input_datatype, rows.dtype, rows.schema.precision) == ("FP64", np.float64, FLOAT64)
    packed = rows.pack(values.tolist())
    batch = rows.join([rows.part(packed, 1, 1), rows.part(packed, 0, 1)], 2)
    np.testing.assert_array_equal(batch, values[::-1])
    np.testing.assert_array_equal(rows.from_wire(rows.to_wire(batch)), batch)
    assert rows.unbatched(batch) == values[::-1].tolist()
    assert rows.key(packed) != rows.key(rows.pack([[0.1, 1_700_000_000], [0.2, 3]]))
    assert rows.listed((0.1, 1_700_000_001.0)) == [0.1, 1_700_000_001.0]
    with pytest.raises(ValueError, match="features that need float64 belong into a card of format 3"):
        make_card(features=features, examples=examples)
    assert "precision" not in make_card().model_dump_json(), "what is usual is not written"


def test_a_text_or_a_category_needs_no_float64() -> None:
    for kind in ("text", "category", "boolean"):
        with pytest.raises(ValueError, match=f"a {kind} needs no float64"):
            Feature(name="a", type=kind, precision="float64")
