"""Mutations: what a good request is turned into. All chance comes from the generator that is handed in."""

import json
from collections.abc import Callable
from random import Random
from typing import Any

from load_tests.fuzz.sample import Route, Sample, http_request

MAX_BODY_BYTES = 256 * 2**10
"""Bodies grow to this at most: length as such is the business of the limits' own tests."""
ODD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**400, 1.5, -0.0, 1e-320, 1e308,
    3.5e38, float("inf"), float("-inf"), float("nan"), "", "1", "NaN", "v1", "v9", "a", "\x00", "\ud800", "\u202e",
    "e\u0301", "\U0001f371" * 50, "x" * 20_000, [], {}, [[]], [{}], {"": None}, [None], [1, [2, [3]]],
    {"__class__": "x", "$ref": "#"},
)  # fmt: skip
ODD_BYTES = (
    b"\x00", b"\xff\xfe", b"\xc0\xaf", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\\u0000", b"\\ud800", b"\r\n\r\n", b"NaN",
    b"Infinity", b"1e999", b"-", b"1" * 500, b"0x10", b"'", b'"', b"/**/", b",", b"]", b"}",
    b"[" * 5_000, b'{"a":' * 2_000,
    b"POST / HTTP/1.1\r\nhost: x\r\n\r\n",
)  # fmt: skip
CONTENT_TYPES = (
    "application/json", "application/json; charset=utf-16", "APPLICATION/JSON", "application/octet-stream", "text/csv",
    "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/x-tar",
    "json", "", ";",
)  # fmt: skip
NAMES = (
    "v1", "v2", "a", "b", "customers", "v9", "V1", "..", ".", "%2e%2e", "%00", "%ff", "v1%2fv2", "~", "-", "*",
    "v1;x=1", "{model}", "x" * 200, "v" * 2_000, "%F0%9F%8D%B1",
)  # fmt: skip
HEADERS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("x-model-version", ("v1", "v2", "a", "v9", "", " ", "x" * 200, "../v1", "v1, v2", "\xe9")),
    ("x-environment", ("production", "staging", "nowhere", "", "x" * 200, "'")),
    ("x-request-id", ("order-1", "a b", "x" * 300, "\xff", "'\"<>")),
    ("x-unit-id", ("user-7", "", "\xe9\xe8", "x" * 300)),
    ("x-request-deadline-ms", ("60000", "-1", "nan", "inf", "1e400", "soon", "", "0x10", "9" * 400)),
    ("accept", ("application/octet-stream", "application/json", "text/html;q=0", "*/*", "", ",")),
    ("inference-header-content-length", ("0", "1", "10", "100", "99999", "-1", "1e3", "9" * 30, "", "+5")),
    ("content-encoding", ("identity", "gzip", "br", "", "gzip, gzip")),
    ("cookie", ("a=b", "x" * 4_000)),
    ("x-forwarded-for", ("1.2.3.4", "::1", "nonsense", "," * 500)),
    ("authorization", ("Bearer x", "Basic !!", "", "Bearer " + "x" * 1_000)),
)  # fmt: skip

Mutation = Callable[[Random, bytes], bytes]


def mutated(random: Random, route: Route) -> bytes:
    """A request whose body, and now and then whose path or headers, are no longer what they should be."""
    sample = random.choice(route.samples)
    body = sample.body
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        body = random.choice(_MUTATIONS)(random, body)
    headers = [("content-type", sample.content_type), *sample.headers]
    if random.random() < 0.1:
        headers[0] = ("content-type", random.choice(CONTENT_TYPES))
    if sample.headers and random.random() < 0.3:
        del headers[1:]
    while random.random() < 0.2:
        name, values = random.choice(HEADERS)
        headers.append((name, random.choice(values)))
    return http_request(_path(random, route, sample), body[:MAX_BODY_BYTES], tuple(headers))


def broken_frame(random: Random, route: Route) -> bytes:
    """A request, or two of them, damaged anywhere, its framing included."""
    sample = random.choice(route.samples)
    pieces = random.choice((1, 2))
    data = http_request(sample.path, sample.body, (("content-type", sample.content_type), *sample.headers)) * pieces
    if random.random() < 0.3:
        data = data.replace(b"content-length:", b"transfer-encoding: chunked\r\nx-was:", 1)
    if random.random() < 0.1:
        data = data.replace(b"\r\n", b"\r\n" + b"x: y\r\n" * random.randrange(20_000), 1)
    head = data.index(b"\r\n\r\n") + 4
    for _ in range(random.randrange(1, 4)):
        data = random.choice(_BYTE_MUTATIONS)(random, data[:head]) + data[head:]
        head = min(head, len(data))
    return data


def _path(random: Random, route: Route, sample: Sample) -> str:
    if "{" not in route.path or random.random() < 0.7:
        return sample.path
    path = route.path
    while "{" in path and (end := path.find("}")) > 0:
        start = path.index("{")
        path = path[:start] + random.choice(NAMES).replace("{model}", "%7Bmodel%7D") + path[end + 1 :]
    return path


def _offset(random: Random, body: bytes) -> int:
    return random.randrange(len(body) + 1)


def _flip(random: Random, body: bytes) -> bytes:
    changed = bytearray(body)
    for _ in range(random.choice((1, 1, 2, 8))):
        if changed:
            changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _truncate(random: Random, body: bytes) -> bytes:
    return body[: _offset(random, body)]


def _insert(random: Random, body: bytes) -> bytes:
    at = _offset(random, body)
    return body[:at] + random.choice(ODD_BYTES) + body[at:]


def _insert_noise(random: Random, body: bytes) -> bytes:
    at = _offset(random, body)
    return body[:at] + random.randbytes(random.randrange(1, 40)) + body[at:]


def _cut(random: Random, body: bytes) -> bytes:
    start, end = sorted((_offset(random, body), _offset(random, body)))
    return body[:start] + body[end:]


def _repeat(random: Random, body: bytes) -> bytes:
    start, end = sorted((_offset(random, body), _offset(random, body)))
    return body[:end] + body[start:end] * random.choice((1, 2, 50)) + body[end:]


def _concatenate(random: Random, body: bytes) -> bytes:
    return random.choice((b"", b"\n", b",", b"\x00")).join([body] * random.choice((2, 3, 20)))


def _nest(random: Random, body: bytes) -> bytes:
    depth = random.choice((1, 2, 100, 1_000, 20_000))
    opening, closing = random.choice(((b"[", b"]"), (b'{"a":', b"}"), (b'{"instances":[', b"]}")))
    return opening * depth + body + closing * depth


def _node(random: Random, body: bytes) -> bytes:
    """One value somewhere in the JSON changes: another type, gone, renamed, repeated or wrapped."""
    try:
        root = [json.loads(body)]
    except (ValueError, RecursionError):
        return _flip(random, body)
    holder: Any = root
    key: Any = 0
    while isinstance(holder[key], dict | list) and holder[key] and random.random() < 0.85:
        holder = holder[key]
        key = random.choice(list(holder)) if isinstance(holder, dict) else random.randrange(len(holder))
    _change(random, holder, key)
    try:
        text = json.dumps(root[0] if root else None, ensure_ascii=random.random() < 0.7)
        return text.encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError):
        return _flip(random, body)


def _change(random: Random, holder: Any, key: Any) -> None:
    value = holder[key]
    match random.randrange(6):
        case 0 if isinstance(holder, dict):
            name = random.choice(("", "x", "instances", "version", "\x00", key.upper(), key + " "))
            holder[name] = holder.pop(key)
        case 0 | 1:
            del holder[key]
        case 2:
            holder[key] = [value] * random.choice((1, 2, 300))
        case 3:
            holder[key] = str(value) if random.random() < 0.5 else {"value": value}
        case _:
            holder[key] = random.choice(ODD_VALUES)


def _repeat_key(random: Random, body: bytes) -> bytes:
    """A key of the outermost object twice, with different values."""
    name = random.choice((b"instances", b"inputs", b"features", b"version", b"shape", b"dataframe_split"))
    return body.replace(b"{", b'{"' + name + b'": ' + random.choice((b"null", b"[]", b"1", b'"v1"')) + b", ", 1)


_BYTE_MUTATIONS: tuple[Mutation, ...] = (_flip, _truncate, _insert, _insert_noise, _cut, _repeat)
_MUTATIONS: tuple[Mutation, ...] = (*_BYTE_MUTATIONS, _concatenate, _nest, _repeat_key, *[_node] * 8)
