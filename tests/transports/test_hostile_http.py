"""Requests of attackers and of other protocols on all kinds of routes, by RFC 9112: never a 5xx, never a second answer.

Beside the broken framing in `test_express_lane`: shapes that a proxy could read in another way, and odd targets.
"""

import contextlib

import pytest

from tests.support.raw_http import NATIVE, Closed, Connection, like, request, rows_request, scored
from tests.support.server import Server

ROUTES = {"lane": NATIVE, "plain": f"{NATIVE}?x=1", "control": "/v1/traffic-split"}
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n"


def post(path: str, *lines: bytes, body: bytes = b"") -> bytes:
    return b"\r\n".join((b"POST %b HTTP/1.1" % path.encode(), b"host: x", *lines, b"", body))


def hostile(path: str) -> dict[str, bytes]:
    """What must be refused or dropped, and must never be read as two requests."""
    chunks = b"0\r\n\r\n"
    return {
        "a length and chunks": post(path, b"content-length: 4", b"transfer-encoding: chunked", body=chunks + SMUGGLED),
        "two lengths": post(path, b"content-length: 0", b"content-length: 40", body=SMUGGLED),
        "a list of lengths": post(path, b"content-length: 0, 40", body=SMUGGLED),
        "a length with a sign": post(path, b"content-length: +0", body=SMUGGLED),
        "a length in hexadecimal": post(path, b"content-length: 0x0", body=SMUGGLED),
        "a coding like chunked": post(path, b"transfer-encoding: xchunked", body=chunks + SMUGGLED),
        "chunked twice over": post(path, b"transfer-encoding: chunked, identity", body=chunks + SMUGGLED),
        "chunked after another coding": post(path, b"transfer-encoding: gzip, chunked", body=chunks + SMUGGLED),
        "chunked twice": post(path, b"transfer-encoding: chunked, chunked", body=chunks + SMUGGLED),
        "chunked on two lines": post(path, *[b"transfer-encoding: chunked"] * 2, body=chunks + SMUGGLED),
        "chunks in HTTP/1.0": post(path, b"transfer-encoding: chunked", body=chunks + SMUGGLED).replace(b"1.1", b"1.0"),
        "two hosts": post(path, b"host: y", b"content-length: 0", body=SMUGGLED),
        "two hosts that agree": post(path, b"host: x", b"content-length: 0", body=SMUGGLED),
        "no host": post(path, b"content-length: 0", body=SMUGGLED).replace(b"host: x\r\n", b"", 1),
        "two hosts in HTTP/1.0": post(path, b"host: y", b"content-length: 0").replace(b"1.1", b"1.0"),
        "a host with a blank and a path": post(path, b"content-length: 0").replace(b": x", b": a b/..", 1),
        "a host with a path": post(path, b"content-length: 0").replace(b": x", b": a/b", 1),
        "a host with a user": post(path, b"content-length: 0").replace(b": x", b": user@a", 1),
        "a host with a query": post(path, b"content-length: 0").replace(b": x", b": a?b", 1),
        "a host with a port that is none": post(path, b"content-length: 0").replace(b": x", b": a:b", 1),
        "a host that is no text": post(path, b"content-length: 0").replace(b": x", b": \xe4", 1),
        "an address that does not end": post(path, b"content-length: 0").replace(b": x", b": [::1", 1),
        "a bad host in HTTP/1.0": post(path, b"content-length: 0").replace(b": x", b": a/b").replace(b"1.1", b"1.0"),
        "a tab before the colon": post(path, b"transfer-encoding\t: chunked", body=chunks + SMUGGLED),
        "a negative chunk": post(path, b"transfer-encoding: chunked", body=b"-1\r\n" + SMUGGLED),
        "a chunk beyond counting": post(path, b"transfer-encoding: chunked", body=b"f" * 17 + b"\r\n" + SMUGGLED),
        "a NUL in a name": post(path, b"x\x00y: 1", b"content-length: 0", body=SMUGGLED),
        "a NUL in the path": post(path.replace("/v1/", "/v1\x00/"), b"content-length: 0", body=SMUGGLED),
        "HTTP/0.9": b"GET /\r\n",
        "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    }


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("name", hostile(NATIVE))
def test_it_is_refused_and_nothing_after_it_is_read(server: Server, name: str, route: str) -> None:
    with Connection(server) as connection:
        connection.send(hostile(ROUTES[route])[name])
        connection.end_sending()
        with contextlib.suppress(Closed, ConnectionError):
            assert 400 <= connection.read().status < 500
        assert connection.is_closed(), "something was read after what was refused"
    with Connection(server) as connection:
        assert scored(connection.ask(rows_request()))


SHAPES = {
    NATIVE: {"error", "request_id"},
    f"{NATIVE}?x=1": {"error", "request_id"},
    "/invocations": {"error_code", "message"},
    "/invocations?x=1": {"error_code", "message"},
    "/v1/models/customers:predict": {"error"},
    "/v2/models/customers/infer": {"error"},
    "/v2/repository/index": {"error"},
    "/v1/traffic-split": {"error", "request_id"},
    "/nowhere": {"error", "request_id"},
}


@pytest.mark.parametrize("name", ["a length and chunks", "two hosts", "a host with a path", "a tab before the colon"])
def test_a_bad_head_is_refused_in_the_shape_of_its_route(server: Server, name: str) -> None:
    for path, shape in SHAPES.items():
        with Connection(server) as connection:
            answer = connection.ask(hostile(path)[name])
        assert (answer.status, set(answer.json)) == (400, shape), path


@pytest.mark.parametrize(
    "host", ["", "x", "a_b.example.:80", "127.0.0.1:3000", "[::1]:3000", "[fe80::1%25eth0]", "%e4.example", " x \t"]
)
def test_a_good_host_is_taken(server: Server, host: str) -> None:
    with Connection(server) as connection:
        for path in (NATIVE, ROUTES["plain"]):
            data = rows_request(path=path).replace(b"host: shokado", b"host: %b" % host.encode())
            assert connection.ask(data).status == 200


def test_http_1_0_needs_no_host(server: Server) -> None:
    with Connection(server) as connection:
        data = rows_request(http="1.0").replace(b"host: shokado\r\n", b"")
        assert connection.ask(data).status == 200


@pytest.mark.parametrize(
    "target",
    [
        "/%2e%2e/%2e%2e/etc/passwd", "/../../etc/passwd", "//etc/passwd", "/%00", "/%ff%fe", "http://x/nowhere", "*",
        "/" + "x" * 30_000, "/?" + "x" * 30_000, "/v1/models/%2e%2e:predict", "/v1/models/..%2f..%2f/load",
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST", "TRACE", "PROPFIND"])
def test_an_odd_target_is_no_error_of_the_server(server: Server, method: str, target: str) -> None:
    with Connection(server) as connection:
        answer = connection.ask(request(b"", target, method, headers=[("connection", "close")]))
        assert answer.status < 500
        assert b"root:" not in answer.body
        assert connection.is_closed()


def test_good_requests_are_answered_after_all_of_it(server: Server) -> None:
    with Connection(server) as connection:
        first = connection.ask(rows_request())
        assert scored(connection.ask(rows_request(path=ROUTES["plain"]))) == like(first)
