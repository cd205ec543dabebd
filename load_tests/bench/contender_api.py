"""How rows become a request and a response becomes scores, for each of the three ways the contenders speak."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from load_tests.bench.reference_model import FloatArray

Rows = npt.NDArray[np.float64]


class Format(StrEnum):
    INSTANCES = "JSON instances"
    TENSORS = "Open Inference Protocol, JSON"
    FLOAT32 = "float32 rows"


@dataclass(frozen=True)
class ContenderApi:
    """Where and how one contender wants its rows, sent by POST."""

    path: str
    format: Format = Format.INSTANCES
    extra_headers: Mapping[str, str] = field(default_factory=dict)

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
            return rows.astype("<f4").tobytes()
        if self.format is Format.INSTANCES:
            return json.dumps({"instances": rows.tolist()}).encode()
        tensor = {"name": "input", "shape": list(rows.shape), "datatype": "FP32", "data": rows.ravel().tolist()}
        return json.dumps({"inputs": [tensor]}).encode()

    def decode(self, body: bytes) -> FloatArray:
        """The scores of a 200 response. Raises ValueError, KeyError or TypeError for a body that holds none."""
        if self.format is Format.FLOAT32:
            return np.frombuffer(body, dtype="<f4").astype(np.float32)
        answer = json.loads(body)
        if self.format is Format.INSTANCES:
            return np.asarray(answer["predictions"], dtype=np.float32)
        output = answer["outputs"][0]
        return np.asarray(output["data"], dtype=np.float32).reshape(output["shape"][0], -1)[:, -1]
