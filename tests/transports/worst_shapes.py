"""Bodies of the worst shapes, of any size: many of what costs a decoder most, in each place where a body may have it.

Run as a program, it prints how much memory each of them takes, decoded in every dialect, in bytes per byte of body.
"""

import contextlib
import ctypes
import gc
import json
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from grpc_health.v1 import health_pb2

from runners.inputs.rows import RowFormat
from shokado.dialects.dialect import Dialect
from shokado.dialects.dialects import all_dialects
from shokado.dialects.head import RequestHead
from shokado.transports.grpc import open_inference_pb2 as messages
from shokado.transports.grpc.codec import ModelInfer
from shokado.transports.grpc.server import infer_request, parsed
from tests.dialects.cases import NAMES
from tests.support.problems import REFUSALS
from tests.support.rows import dense_format, text_format

MAX_ROWS = 10_000
HEADS = {kind: RequestHead(content_type=kind.encode()) for kind in ("application/json", "text/csv")}
_COLUMNS = json.dumps(NAMES).encode()
PLACES = {
    "rows": (b'{"instances":[', b"]}"),
    "values of a row": (b'{"instances":[[', b"]]}"),
    "values of the only row": (b'{"features":[', b"]}"),
    "rows of a table": (b'{"dataframe_split":{"columns":%b,"data":[' % _COLUMNS, b"]}}"),
    "values of a column": (b'{"inputs":{"age":[', b"]}}"),
    "records": (b'{"dataframe_records":[', b"]}"),
    "texts": (b'{"emails":[', b"]}"),
    "data of a tensor": (b'{"inputs":[{"name":"x","shape":[10,10],"datatype":"FP32","data":[', b"]}]}"),
    "a shape": (b'{"inputs":[{"name":"x","datatype":"FP32","data":[1],"shape":[', b"]}]}"),
    "tensors": (b'{"inputs":[', b"]}"),
    "what is ignored": (b'{"params":[', b'],"instances":[[1]],"inputs":[]}'),
}
UNITS = {
    "empty lists": b"[]",
    "empty objects": b"{}",
    "small numbers": b"1",
    "fractions": b"0.1",
    "texts": b'"ab"',
    "escapes": b'"\\u0041\\n"',
    "long numbers": b"9" * 4_000,
    "truth values": b"true",
    "objects": b'{"a":1}',
    "rows": b"[" + b"1," * 9 + b"1]",
    "rows with a fault": b"[" + b"1," * 9 + b"null]",
    "rows by name": json.dumps(dict.fromkeys(NAMES, 1.5), separators=(",", ":")).encode(),
}


def json_shapes(size: int) -> Iterator[tuple[str, bytes]]:
    """Names and bodies, each of about `size` bytes."""
    for place, (before, after) in PLACES.items():
        for what, unit in UNITS.items():
            yield f"{what} as {place}", before + b",".join([unit] * (size // (len(unit) + 1))) + after
    yield "nested lists", b'{"instances":' + b"[" * size
    yield "nested objects", b'{"instances":' + b'{"a":' * (size // 5)
    yield "one name again and again", b"{" + b",".join([b'"k":1'] * (size // 6)) + b"}"
    yield "names that are all different", b"{" + b",".join(b'"k%d":1' % i for i in range(size // 12)) + b"}"
    names = b",".join(b'"k%d":1' % i for i in range(size // 12))
    yield "different names in a row", b'{"instances":[{%b}],"features":{%b}}' % (names, names)
    yield "a long text", b'{"unit":"%b"}' % (b"a" * size)
    yield "a text of escapes", b'{"unit":"%b"}' % (b"\\n" * (size // 2))
    yield "a name of escapes", b'{"%b":1}' % (b"\\n" * (size // 2))
    yield "a text of commas", b'{"unit":"%b"}' % (b"," * size)
    yield "a text of escaped quotes", b'{"unit":"%b"}' % (b'\\",' * (size // 3))
    yield "half a character at the end", b'{"unit":"%b\\ud800"}' % (b"a" * size)
    for what, number in (("digits", b"9"), ("an exponent", b"1e"), ("a fraction", b"0.")):
        yield what, b'{"instances":[[%b%b]],"features":[%b]}' % (number, b"9" * size, number + b"9" * size)
    yield "white space", b"{%b}" % (b" " * size)


def csv_shapes(size: int) -> Iterator[tuple[str, bytes]]:
    """The same of tables."""
    header = ",".join(NAMES).encode() + b"\n"
    yield "rows", header + b"1,2,3,4,5,6,7,8,9,10\n" * (size // 21)
    yield "rows of one value", b"age\n" + b"1\n" * (size // 2)
    yield "a wide row", header + b"ab," * (size // 3)
    yield "a wide header", b"ab," * (size // 3)
    yield "quotes", header + b'""""' * (size // 4)
    yield "a quote that does not end", header + b'"' + b"a\n" * (size // 2)
    yield "digits", header + b"9" * size
    yield "fractions", header + (b",".join([b"0." + b"9" * 10_000] * 10) + b"\n") * (size // 100_000)
    yield "blank lines", b"\n" * size
    yield "commas", b"," * size


def field(number: int, content: bytes) -> bytes:
    """A field of protobuf's that holds bytes."""
    return bytes((*_varint(number << 3 | 2), *_varint(len(content)))) + content


def _varint(value: int) -> Iterator[int]:
    while value >= 0x80:
        yield value & 0x7F | 0x80
        value >>= 7
    yield value


def message_shapes(size: int) -> Iterator[tuple[str, bytes]]:
    """The same of messages: fields of ModelInferRequest, which to the other messages of gRPC are unknown ones."""

    def many(unit: bytes) -> bytes:
        return unit * (size // len(unit))

    names = b"".join(field(4, field(1, b"k%d" % number)) for number in range(size // 11))
    for number, what in {1: "names", 4: "parameters", 5: "inputs", 6: "outputs", 7: "raw", 9: "unknown"}.items():
        yield f"empty {what}", many(field(number, b""))
        yield f"one long field of {what}", field(number, bytes(size))
    yield "inputs with names", many(field(5, field(1, b"x")))
    yield "inputs with raw contents", many(field(5, field(1, b"x"))) + many(field(7, b""))
    yield "parameters of many names", names
    for number, what in {3: "sides", 4: "parameters", 5: "contents"}.items():
        yield f"{what} of an input", field(5, many(field(number, b"\1" if number == 3 else b"")))
    yield "parameters of many names of an input", field(5, names)
    yield "parameters of an output", field(6, many(field(2, b"")))
    yield "a shape of many sides", field(5, field(3, many(b"\1")))
    yield "a shape of many sides, one by one", field(5, many(b"\x18\1"))
    for number in range(1, 9):
        yield f"values of contents {number}", field(5, field(5, field(number, many(b"\1"))))
        yield f"values of contents {number}, one by one", field(5, field(5, many(field(number, b""))))
    yield "numbers of contents, one by one", field(5, field(5, many(b"\x18\1")))
    yield "groups", many(b"\x4b\x4c")
    yield "groups in groups", many(b"\x4b")
    yield "a number that does not end", many(b"\xff")


class GrpcMethod:
    """The decoder of a method's message, as a dialect has one of a body."""

    def __init__(self, path: str, read: Callable[[bytes], object]) -> None:
        self.path = path
        self._read = read

    def decode(self, body: bytes, _head: RequestHead, /) -> object:
        return self._read(body)


def grpc_methods(row_format: RowFormat) -> list[GrpcMethod]:
    """All that read a message."""

    def infer(message: bytes) -> object:
        return ModelInfer(row_format, infer_request(message, row_format)).decode(b"", RequestHead())

    types = (messages.ModelReadyRequest, messages.ModelMetadataRequest, health_pb2.HealthCheckRequest)
    others = [GrpcMethod(kind.DESCRIPTOR.full_name, partial(parsed, request_type=kind)) for kind in types]
    return [GrpcMethod("ModelInfer", infer), *others]


def header_shapes(size: int) -> Iterator[tuple[str, list[tuple[bytes, bytes]]]]:
    """The same of heads, over HTTP and, as metadata, over gRPC."""
    yield "many headers", [(b"x-%d" % number, b"y") for number in range(size // 10)]
    yield "one header again and again", [(b"x-request-id", b"y")] * (size // 13)
    yield "versions", [(b"x-model-version", b"v%d" % number) for number in range(size // 20)]
    yield "addresses", [(b"x-forwarded-for", b"10.0.0.1")] * (size // 24)
    for name in (b"x-other", b"x-unit-id", b"x-request-id", b"authorization", b"accept", b"x-request-deadline-ms"):
        for what, character in (("characters", b"a"), ("commas", b","), ("blanks", b" ."), ("digits", b"9")):
            yield f"{name.decode()} of many {what}", [(name, character * (size // len(character)))]


def all_shapes(size: int) -> Iterator[tuple[Dialect | GrpcMethod, str, RequestHead, bytes]]:
    """Each shape for each way to decode a body, of a model of numbers and of one that takes a text."""
    numbers, text = dense_format(NAMES, MAX_ROWS, booleans=["is_premium"]), text_format("text", MAX_ROWS, 100_000)
    dialects = [
        dialect
        for row_format in (numbers, text)
        for dialect in {type(dialect).decode: dialect for dialect in reversed(all_dialects(row_format))}.values()
    ]
    # The bodies in the outer loop, as making one takes as long as reading it.
    for name, body in json_shapes(size):
        for dialect in dialects:
            yield dialect, name, HEADS["application/json"], body
    for name, body in csv_shapes(size):
        for dialect in dialects:
            if dialect.path == "/invocations":
                yield dialect, name, HEADS["text/csv"], body
    for name, body in message_shapes(size):
        for method in grpc_methods(numbers):
            yield method, name, RequestHead(), body


def decode(dialect: Dialect | GrpcMethod, body: bytes, head: RequestHead) -> None:
    """Decode a body; a problem, which most of them are, is as good."""
    with contextlib.suppress(*REFUSALS):
        dialect.decode(body, head)


def _memory(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def main(size: int) -> None:
    trim = ctypes.CDLL("libc.so.6").malloc_trim
    gc.freeze()
    for dialect, name, head, body in all_shapes(size):
        gc.collect()
        trim(0)
        before = _memory("VmRSS")
        # Makes the peak that of now.
        Path("/proc/self/clear_refs").write_text("5")
        decode(dialect, body, head)
        print(f"{(_memory('VmHWM') - before) / len(body):.1f} {dialect.path} {head.content_type.decode()} {name}")


if __name__ == "__main__":
    main(int(sys.argv[1]))
