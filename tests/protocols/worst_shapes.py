"""Bodies of the worst shapes, of any size: many of what costs a decoder most, in each place where a body may have it.

Run as a program, it prints how much memory each of them takes, decoded in every dialect, in bytes per byte of body.
"""

import contextlib
import ctypes
import gc
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from protocols.dialect import Dialect
from protocols.dialects import all_dialects
from protocols.head import RequestHead
from protocols.problem import Problem
from protocols.signature import Signature
from protocols.text_signature import TextSignature
from tests.protocols.cases import NAMES

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
    yield "half a letter at the end", b'{"unit":"%b\\ud800"}' % (b"a" * size)
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


def all_shapes(size: int) -> Iterator[tuple[Dialect, str, RequestHead, bytes]]:
    """Each shape for each way to decode a body, of a model of numbers and of one that takes a text."""
    numbers, text = Signature(NAMES, MAX_ROWS, booleans=["is_premium"]), TextSignature("text", MAX_ROWS, 100_000)
    for signature in (numbers, text):
        dialects = {type(dialect).decode: dialect for dialect in reversed(all_dialects(signature))}
        for dialect in dialects.values():
            for name, body in json_shapes(size):
                yield dialect, name, HEADS["application/json"], body
            if dialect.path == "/invocations":
                for name, body in csv_shapes(size):
                    yield dialect, name, HEADS["text/csv"], body


def decode(dialect: Dialect, body: bytes, head: RequestHead) -> None:
    """Decode a body; a problem, which most of them are, is as good."""
    with contextlib.suppress(Problem):
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
