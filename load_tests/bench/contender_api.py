"""How rows become a request and a response becomes scores, for each of the ways the contenders speak."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np

from load_tests.bench.bench_model import FloatArray, Rows


class Format(StrEnum):
    INSTANCES = "JSON instances"
    TENSORS = "Open Inference Protocol, JSON"
    FLOAT32 = "float32 rows"
    RECORDS = "MLflow records"
    FEATURE_TENSORS = "Open Inference Protocol, JSON, a tensor for each feature"


@dataclass(frozen=True)
class ContenderApi:
    """Where and how one contender wants its rows, sent by POST."""

    path: str
    format: Format = Format.INSTANCES
    extra_headers: Mapping[str, str] = field(default_factory=dict)
    texts: tuple[str, ...] = ()
    """The features that are texts, where each travels as a tensor of its own."""

    @property
    def headers(self) -> dict[str, str]:
        if self.format is Format.FLOAT32:
            kinds = {"Content-Type": "application/octet-stream", "Accept": "application/octet-stream"}
        else:
            kinds = {"Content-Type": "application/json"}
        return kinds | dict(self.extra_headers)

    def encode(self, rows: Rows) -> bytes:
        """The request's body. JSON carries the decimals, float32 rows are little-endian in C order."""
        if self.format is Format.FLOAT32:
            return np.asarray(rows, dtype="<f4").tobytes()
        plain = rows.tolist() if isinstance(rows, np.ndarray) else rows
        match self.format:
            case Format.INSTANCES:
                body = {"instances": plain}
            case Format.RECORDS:
                body = {"dataframe_records": plain}
            case Format.FEATURE_TENSORS:
                body = self._feature_tensors(plain)
            case _:
                data = [value for row in plain for value in row]
                shape = [len(plain), len(plain[0])]
                body = {"inputs": [{"name": "input", "shape": shape, "datatype": "FP32", "data": data}]}
        return json.dumps(body).encode()

    def _feature_tensors(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """A request for probabilities as MLServer's codec of DataFrames takes it."""
        text, number = {"datatype": "BYTES", "parameters": {"content_type": "str"}}, {"datatype": "FP64"}
        inputs = [
            {"name": name, "shape": [len(rows), 1], "data": [row[name] for row in rows]}
            | (text if name in self.texts else number)
            for name in rows[0]
        ]
        return {"parameters": {"content_type": "pd"}, "inputs": inputs, "outputs": [{"name": "predict_proba"}]}

    def decode(self, body: bytes) -> FloatArray:
        """The scores of a 200 response. Raises ValueError, KeyError or TypeError for a body that holds none."""
        if self.format is Format.FLOAT32:
            return np.frombuffer(body, dtype="<f4").astype(np.float32)
        answer = json.loads(body)
        if self.format is Format.INSTANCES:
            return np.asarray(answer["predictions"], dtype=np.float32)
        if self.format is Format.RECORDS:
            return np.asarray(answer["predictions"], dtype=np.float32)[:, -1]
        output = answer["outputs"][0]
        return np.asarray(output["data"], dtype=np.float32).reshape(output["shape"][0], -1)[:, -1]
