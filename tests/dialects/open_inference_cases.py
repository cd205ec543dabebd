"""The rows of the parity table for the Open Inference Protocol, and how its answers are compared."""

import json
from typing import Any

import numpy as np

from tests.dialects.cases import NAMES, OTHER_ROW, PACKED, Case
from tests.support.raw_http import Answer
from tests.support.server import ROW

MODEL = "/v2/models/customers/infer"
VERSION = "/v2/models/customers/versions/v1/infer"
ALIAS = "/v2/models/b/infer"
OCTETS = "application/octet-stream"
PIN = (("x-model-version", "v1"),)
MATRIX = {"name": "input", "datatype": "FP32", "shape": [2, 10], "data": [ROW, OTHER_ROW]}
FLAT = MATRIX | {"data": [*ROW, *OTHER_ROW]}
COLUMNS = [
    {"name": name, "datatype": "FP64", "shape": [2, 1], "data": [[value], [other]]}
    for name, value, other in zip(NAMES, ROW, OTHER_ROW, strict=True)
]


def body(*inputs: Any, **fields: Any) -> bytes:
    return json.dumps({"inputs": inputs or [MATRIX], **fields}).encode()


def packed(size: int = len(PACKED), shape: tuple[int, ...] = (2, 10), **fields: Any) -> bytes:
    tensor = {"name": "input", "datatype": "FP32", "shape": shape, "parameters": {"binary_data_size": size}}
    return body(tensor, **fields)


def in_binary(name: str, text: bytes, data: bytes = PACKED, **how: Any) -> Case:
    length = str(how.pop("length", len(text)))
    headers = (("Inference-Header-Content-Length", length), *PIN)
    return Case(name, text + data, MODEL, headers, how.pop("content_type", OCTETS), **how)


def _cases() -> list[Case]:
    chosen = [{"name": "classes"}, {"name": "predictions", "parameters": {"binary_data": True}}]
    return [
        Case("a matrix", body(), VERSION),
        Case("a flat matrix", body(FLAT), ALIAS),
        Case("a tensor for each feature", body(*COLUMNS), VERSION),
        Case("a pin of the header", body(), MODEL, PIN),
        Case("an id that is kept", body(id="7"), VERSION, (("x-request-id", "mine"),)),
        Case("one output", body(outputs=[{"name": "predictions"}]), VERSION),
        Case("all outputs in binary", body(parameters={"binary_data_output": True}), VERSION),
        Case("one output in binary", body(outputs=chosen), VERSION),
        Case("unknown parameters", body(parameters={"timeout": 5}, colour=1), VERSION),
        in_binary("a binary matrix", packed()),
        in_binary("a binary matrix as JSON", packed(), content_type="application/json"),
        in_binary("a binary matrix of no type", packed(), content_type=None),
        in_binary("a body that is all binary", b""),
        *(
            Case(f"bad {bad.decode()[:10]}", bad, VERSION, status=400)
            for bad in (b"", b"{", b"[]", b"{}", b"[" * 100_000)
        ),
        Case("no inputs", b'{"inputs": []}', VERSION, status=422),
        Case("too narrow", body(MATRIX | {"shape": [4, 5]}), VERSION, status=400),
        Case("nested as the shape says, but too narrow", body(FLAT | {"shape": [4, 5]}), VERSION, status=422),
        Case("a huge shape", body(MATRIX | {"shape": [2**62, 2**62]}), VERSION, status=400),
        Case("null", body(FLAT | {"data": [*ROW, *OTHER_ROW[1:], None]}), VERSION, status=422),
        Case("beyond float32", body(FLAT | {"data": [*ROW, *OTHER_ROW[1:], 3.5e38]}), VERSION, status=422),
        Case("an unknown output", body(outputs=[{"name": "logits"}]), VERSION, status=400),
        Case("a row too many", body(FLAT | {"shape": [10_001, 10], "data": [0] * 100_010}), VERSION, status=413),
        Case("an unknown model", body(), "/v2/models/cats/infer", status=404),
        Case("an unknown version", body(), "/v2/models/customers/versions/v9/infer", status=404),
        Case("two versions", body(), "/v2/models/a/versions/v2/infer", status=400),
        Case("text", b"x", VERSION, content_type="text/plain", status=415),
        Case("compressed by another", b"x", VERSION, (("content-encoding", "zstd"),), status=415),
        Case("not compressed", body(), VERSION, (("content-encoding", "gzip"),), status=400),
        Case("a body a byte too long", b" " * (16 * 2**20 + 1), VERSION, status=413),
        in_binary("a short part", packed(), PACKED[:-1], status=400),
        in_binary("a long part", packed(), PACKED + b"x", status=400),
        in_binary("no part", packed(), b"", status=400),
        in_binary("a negative size", packed(size=-80), status=400),
        in_binary("a huge size", packed(size=2**62), status=400),
        in_binary("a huge binary shape", packed(shape=(2**62, 10)), status=400),
        in_binary("a NaN", packed(), np.full((2, 10), np.nan, "<f4").tobytes(), status=422),
        in_binary("a length too long", packed(), length=10**9, status=400),
        in_binary("a length that is none", packed(), length="-1", status=400),
        in_binary("a length within the JSON", packed(), length=5, status=400),
        in_binary("half a value", b"", PACKED[:-2], status=422),
    ]


CASES = _cases()


def inferred(answer: Answer) -> tuple[Any, list[float]] | None:
    """What an answer of the protocol says but for its ids, and its scores apart; none for other answers."""
    length = answer.header("inference-header-content-length")
    if answer.status != 200 or (length is None and answer.header("content-type") != "application/json"):
        return None
    text, data = answer.body[: int(length)] if length else answer.body, answer.body[int(length) :] if length else b""
    content = json.loads(text)
    if "outputs" not in content:
        return None
    assert content["parameters"].pop("request_id") == answer.header("x-request-id")
    assert content["parameters"].pop("prediction_id")
    scores: list[float] = []
    for output in content["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size", 0)
        part, data = data[:size], data[size:]
        if output["name"] == "predictions":
            scores = output.pop("data", None) or np.frombuffer(part, "<f4").tolist()
        elif size:
            output["data"] = part
    assert not data
    return content, scores
