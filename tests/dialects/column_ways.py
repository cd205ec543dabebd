"""The ways to send one row of several columns: every dialect, and each form that it has for a row."""

import json
import struct
from collections.abc import Callable, Sequence
from typing import Any

from runners.inputs.datatypes import BYTES
from runners.inputs.formats import row_format_of
from runners.inputs.schema import Feature
from shokado.dialects.batch import Batch
from shokado.dialects.head import RequestHead
from shokado.dialects.kserve_v1 import KServeV1
from shokado.dialects.mlflow import MLflow
from shokado.dialects.native import Native
from shokado.dialects.open_inference import OpenInference
from shokado.dialects.single import Single
from shokado.transports.grpc import open_inference_pb2 as messages
from shokado.transports.grpc.codec import ModelInfer

JSON, CSV = RequestHead(content_type=b"application/json"), RequestHead(content_type=b"text/csv")
NAN = float("nan")
_DATATYPES = {"category": BYTES, "text": BYTES, "float": "FP64", "integer": "INT64", "boolean": "BOOL"}
_FORMATS = {"FP64": "<d", "INT64": "<q", "BOOL": "<?"}
_CONTENTS = {BYTES: "bytes_contents", "FP64": "fp64_contents", "INT64": "int64_contents", "BOOL": "bool_contents"}
Way = Callable[[list[Any]], Any]


class ColumnWays:
    """Sends rows of some features, a list of values each, and gives what they are packed as."""

    def __init__(self, features: Sequence[Feature]) -> None:
        self.names = [feature.name for feature in features]
        self.rows = row_format_of(features)
        self._kinds = {feature.name: _DATATYPES[feature.type] for feature in features}

    def posted(self, dialect: Any, body: Any, head: RequestHead = JSON) -> Any:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return dialect(self.rows).decode(content, head).rows

    def named(self, row: list[Any]) -> dict[str, Any]:
        return dict(zip(self.names, row, strict=True))

    def table(self, row: list[Any]) -> bytes:
        cells = ["" if value is None else _quoted(value) if isinstance(value, str) else str(value) for value in row]
        return f"{','.join(self.names)}\n{','.join(cells)}\n".encode()

    def tensors(self, row: list[Any]) -> list[dict[str, Any]]:
        return [
            {"name": name, "datatype": self._kinds[name], "shape": [1], "data": [value]}
            for name, value in zip(self.names, row, strict=True)
        ]

    def over_binary(self, row: list[Any]) -> Any:
        inputs, data = [], b""
        for one in self.tensors(row):
            (value,) = one.pop("data")
            if one["datatype"] == BYTES:
                packed = struct.pack("<I", len(value.encode())) + value.encode()
            else:
                packed = struct.pack(_FORMATS[one["datatype"]], NAN if value is None else value)
            data += packed
            inputs.append(one | {"parameters": {"binary_data_size": len(packed)}})
        text = json.dumps({"inputs": inputs}).encode()
        head = RequestHead(content_type=b"application/octet-stream", json_bytes=len(text))
        return self.posted(OpenInference, text + data, head)

    def over_grpc(self, row: list[Any]) -> Any:
        request = messages.ModelInferRequest(model_name="m")
        for one in self.tensors(row):
            (value,) = one["data"]
            sent = value.encode() if isinstance(value, str) else NAN if value is None else value
            contents = {_CONTENTS[one["datatype"]]: [sent]}
            request.inputs.add(name=one["name"], datatype=one["datatype"], shape=[1], contents=contents)
        return ModelInfer(self.rows, request).decode(b"", JSON).rows

    def all(self) -> dict[str, Way]:
        """Every way by what it is called. Those of binary data and over gRPC have no null for a text."""
        posted, named, names = self.posted, self.named, self.names
        return {
            "native, a list": lambda row: posted(Native, {"instances": [row]}),
            "native, by name": lambda row: posted(Native, {"instances": [named(row)]}),
            "one row, a list": lambda row: posted(Single, {"features": row}),
            "one row, by name": lambda row: posted(Single, {"features": named(row)}),
            "a batch": lambda row: posted(Batch, {"instances": [row]}),
            "KServe v1": lambda row: posted(KServeV1, {"instances": [row]}),
            "MLflow, split": lambda row: posted(MLflow, {"dataframe_split": {"columns": names, "data": [row]}}),
            "MLflow, split in another order": lambda row: posted(
                MLflow, {"dataframe_split": {"columns": names[::-1], "data": [row[::-1]]}}
            ),
            "MLflow, records": lambda row: posted(MLflow, {"dataframe_records": [named(row)]}),
            "MLflow, instances": lambda row: posted(MLflow, {"instances": [row]}),
            "MLflow, columns": lambda row: posted(
                MLflow, {"inputs": {name: [value] for name, value in named(row).items()}}
            ),
            "CSV": lambda row: posted(MLflow, self.table(row), CSV),
            "Open Inference": lambda row: posted(OpenInference, {"inputs": self.tensors(row)}),
            "Open Inference, binary": self.over_binary,
            "gRPC": self.over_grpc,
        }


def _quoted(text: str) -> str:
    doubled = text.replace('"', '""')
    return f'"{doubled}"'
