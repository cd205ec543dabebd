"""The same typed row in every dialect: the same packed numbers, or the same fault."""

import json
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from runners.inputs.datatypes import BYTES
from runners.inputs.faults import InputFault
from runners.inputs.formats import row_format_of
from runners.inputs.schema import Feature
from shokado.dialects.batch import Batch
from shokado.dialects.head import RequestHead
from shokado.dialects.kserve_v1 import KServeV1
from shokado.dialects.mlflow import MLflow
from shokado.dialects.native import Native
from shokado.dialects.open_inference import OpenInference
from shokado.dialects.problem import Problem
from shokado.dialects.single import Single
from shokado.transports.grpc import open_inference_pb2 as messages
from shokado.transports.grpc.codec import ModelInfer

FEATURES = [
    Feature(name="sex", type="category", levels=("male", "female")),
    Feature(name="port", type="category", levels=("S", "C, or Q"), nullable=True, other=True),
    Feature(name="age", nullable=True),
    Feature(name="class", type="integer"),
    Feature(name="alone", type="boolean"),
]
NAMES = [feature.name for feature in FEATURES]
ROWS = row_format_of(FEATURES)
JSON, CSV = RequestHead(content_type=b"application/json"), RequestHead(content_type=b"text/csv")
NAN = float("nan")


def posted(dialect: Any, body: Any, head: RequestHead = JSON) -> Any:
    return dialect(ROWS).decode(json.dumps(body).encode() if not isinstance(body, bytes) else body, head).rows


def named(row: list[Any]) -> dict[str, Any]:
    return dict(zip(NAMES, row, strict=True))


def table(row: list[Any]) -> bytes:
    cells = ["" if value is None else f'"{value}"' if isinstance(value, str) else str(value) for value in row]
    return f"{','.join(NAMES)}\n{','.join(cells)}\n".encode()


def tensors(row: list[Any]) -> list[dict[str, Any]]:
    kinds = {"sex": BYTES, "port": BYTES, "age": "FP64", "class": "INT64", "alone": "BOOL"}
    return [
        {"name": name, "datatype": kinds[name], "shape": [1], "data": [value]}
        for name, value in zip(NAMES, row, strict=True)
    ]


def binary(row: list[Any]) -> tuple[bytes, int]:
    inputs, data = [], b""
    for one in tensors(row):
        (value,) = one.pop("data")
        formats = {"FP64": "<d", "INT64": "<q", "BOOL": "<?"}
        if one["datatype"] == BYTES:
            packed = struct.pack("<I", len(value.encode())) + value.encode()
        else:
            packed = struct.pack(formats[one["datatype"]], NAN if value is None else value)
        data += packed
        inputs.append(one | {"parameters": {"binary_data_size": len(packed)}})
    text = json.dumps({"inputs": inputs}).encode()
    return text + data, len(text)


def over_binary(row: list[Any]) -> Any:
    body, length = binary(row)
    head = RequestHead(content_type=b"application/octet-stream", json_bytes=length)
    return OpenInference(ROWS).decode(body, head).rows


def over_grpc(row: list[Any]) -> Any:
    request = messages.ModelInferRequest(model_name="m")
    fields = {BYTES: "bytes_contents", "FP64": "fp64_contents", "INT64": "int64_contents", "BOOL": "bool_contents"}
    for one in tensors(row):
        (value,) = one["data"]
        sent = value.encode() if isinstance(value, str) else NAN if value is None else value
        contents = {fields[one["datatype"]]: [sent]}
        request.inputs.add(name=one["name"], datatype=one["datatype"], shape=[1], contents=contents)
    return ModelInfer(ROWS, request).decode(b"", JSON).rows


WAYS: dict[str, Callable[[list[Any]], Any]] = {
    "native, a list": lambda row: posted(Native, {"instances": [row]}),
    "native, by name": lambda row: posted(Native, {"instances": [named(row)]}),
    "one row, a list": lambda row: posted(Single, {"features": row}),
    "one row, by name": lambda row: posted(Single, {"features": named(row)}),
    "a batch": lambda row: posted(Batch, {"instances": [row]}),
    "KServe v1": lambda row: posted(KServeV1, {"instances": [row]}),
    "MLflow, split": lambda row: posted(MLflow, {"dataframe_split": {"columns": NAMES, "data": [row]}}),
    "MLflow, split in another order": lambda row: posted(
        MLflow, {"dataframe_split": {"columns": NAMES[::-1], "data": [row[::-1]]}}
    ),
    "MLflow, records": lambda row: posted(MLflow, {"dataframe_records": [named(row)]}),
    "MLflow, instances": lambda row: posted(MLflow, {"instances": [row]}),
    "MLflow, columns": lambda row: posted(MLflow, {"inputs": {name: [value] for name, value in named(row).items()}}),
    "CSV": lambda row: posted(MLflow, table(row), CSV),
    "Open Inference": lambda row: posted(OpenInference, {"inputs": tensors(row)}),
    "Open Inference, binary": over_binary,
    "gRPC": over_grpc,
}


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
