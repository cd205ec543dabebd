"""Good requests to begin from: the examples of each prediction route, read from the served description of the API.

Comes in: the JSON of `/openapi.json`. Goes out: routes with their samples, so that a new dialect needs nothing here.
"""

import json
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

JSON = "application/json"
BINARY = "application/octet-stream"
PIN = "v1"
"""The version that good requests ask for, so that their answers can be told in advance."""
_MODEL_NAME = re.compile(r"\{\w+\}")


@dataclass(frozen=True)
class Sample:
    """A good request to one path."""

    path: str
    """The path, with a version in the place of each `{name}`."""
    content_type: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Route:
    """A prediction route and what to send to it."""

    path: str
    """The path as the description has it, with `{name}` in it."""
    samples: tuple[Sample, ...]


def http_request(path: str, body: bytes, headers: Iterator[tuple[str, str]] | tuple[tuple[str, str], ...]) -> bytes:
    """A request as bytes; its length is always right, so that the connection can go on after any body."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    head = f"POST {path} HTTP/1.1\r\nhost: fuzz\r\n{lines}content-length: {len(body)}\r\n\r\n"
    return head.encode("utf-8", "surrogatepass") + body


def good_request(sample: Sample, pinned: bool) -> bytes:
    """The sample unharmed; `pinned`: a header asks for the version."""
    pin = (("x-model-version", PIN),) if pinned else ()
    return http_request(sample.path, sample.body, (("content-type", sample.content_type), *sample.headers, *pin))


def routes_of(description: dict[str, Any]) -> list[Route]:
    """The prediction routes of a served description, each with the samples that its examples give."""
    routes = []
    for path, operations in description["paths"].items():
        operation = operations.get("post", {})
        if "predictions" in operation.get("tags", ()):
            contents = operation["requestBody"]["content"]
            routes.append(Route(path, tuple(_samples(_MODEL_NAME.sub(PIN, path), contents))))
    return routes


def _samples(path: str, contents: dict[str, Any]) -> Iterator[Sample]:
    for content_type, content in contents.items():
        for example in content.get("examples", {}).values():
            value = example["value"]
            body = value if isinstance(value, str) and content_type != JSON else json.dumps(value)
            yield Sample(path, content_type, body.encode())
    if BINARY in contents:
        examples = [example["value"] for example in contents.get(JSON, {}).get("examples", {}).values()]
        packed_as = contents[BINARY].get("schema", {}).get("x-dtype", "float32")
        yield from _binary_samples(path, examples, packed_as)


def _binary_samples(path: str, examples: list[Any], packed_as: str) -> Iterator[Sample]:
    """The first example with its values in binary: tensors after their JSON, or else packed rows of numbers alone."""
    for example in examples:
        rows = example.get("instances")
        if rows and isinstance(rows[0], list) and not any(isinstance(value, str) for row in rows for value in row):
            yield Sample(path, BINARY, np.array(rows, dtype=np.dtype(packed_as).newbyteorder("<")).tobytes())
            return
        inputs = example.get("inputs")
        if isinstance(inputs, list) and all(tensor.get("datatype") in _PACKED for tensor in inputs):
            parts = [_PACKED[tensor["datatype"]](tensor["data"]) for tensor in inputs]
            tensors = [
                {
                    **{name: tensor[name] for name in tensor if name != "data"},
                    "parameters": {"binary_data_size": len(part)},
                }
                for tensor, part in zip(inputs, parts, strict=True)
            ]
            head = json.dumps({**example, "inputs": tensors}).encode()
            length = (("inference-header-content-length", str(len(head))),)
            yield Sample(path, BINARY, b"".join((head, *parts)), length)
            return


def _texts(values: list[str]) -> bytes:
    """Each text after its length."""
    return b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in values)


_PACKED: dict[str, Callable[[list[Any]], bytes]] = {
    "FP32": lambda values: np.array(values, "<f4").tobytes(),
    "FP64": lambda values: np.array(values, "<f8").tobytes(),
    "BOOL": lambda values: np.array(values, "u1").tobytes(),
    "BYTES": _texts,
}
"""Values of a tensor as binary data; None, where a number is missing, is NaN."""
