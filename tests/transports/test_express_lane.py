"""The lane keeps HTTP right: bytes go over raw sockets, however they are cut, and answers come back in order."""

import contextlib
import threading
import time
from typing import Any

import httpx
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.dialects.cases import BAD, MAX_BODY_BYTES, OTHER_ROW, native, single
from tests.support.raw_http import NATIVE, SINGLE, Answer, Connection, chunked, like, request, rows_request, scored
from tests.support.server import ROW, Server
from tests.support.waiting import wait_until

MAX_HEADER_BYTES = 64 * 1024
CHUNKED = [("transfer-encoding", "chunked")]


def row_of(number: int) -> list[float]:
    """Rows whose scores differ, so that an answer in the wrong place is seen."""
    return [18.0 + number % 60, 20_000.0 + 1_000 * number, 400.0 + 7 * number % 450, *ROW[3:]]


@pytest.fixture(scope="module")
def expected(server: Server) -> list[Any]:
    """What each of 64 rows gets when it is asked for alone."""
    with Connection(server) as connection:
        answers = [connection.ask(rows_request(row_of(number))) for number in range(64)]
    assert len({round(answer.json["predictions"][0], 4) for answer in answers}) > 32
    return [like(answer) for answer in answers]


# Order ------------------------------------------------------------------------------------------------------------


def test_pipelined_requests_are_answered_in_their_order(server: Server, expected: list[Any]) -> None:
    with Connection(server) as connection:
        connection.send(b"".join(rows_request(row_of(number)) for number in range(64)))
        assert [scored(answer) for answer in connection.read_all(64)] == expected


def test_a_bad_request_between_good_ones_gets_its_own_answer(server: Server, expected: list[Any]) -> None:
    bad = [case for case in BAD if len(case.body) < 1_000 and case.status != 504][:60]
    with Connection(server) as connection:
        connection.send(b"".join(rows_request(row_of(n)) + case.bytes_for("lane") for n, case in enumerate(bad)))
        for number, case in enumerate(bad):
            assert scored(connection.read()) == expected[number]
            answer = connection.read()
            assert (answer.status, answer.code) == (case.status, case.code)


def test_requests_of_both_transports_on_one_connection_are_answered_in_their_order(
    server: Server, expected: list[Any]
) -> None:
    """GET and POST, lane and not lane, with and without a body, all in one segment."""
    versions = request(b"", "/v1/models", "GET", content_type=None)
    nothing = request(b"x", "/nothing")
    plain = rows_request(row_of(2), path=NATIVE + "?x=1")
    parts = [rows_request(row_of(0)), versions, rows_request(row_of(1)), nothing, versions, plain, rows_request()] * 5
    with Connection(server) as connection:
        connection.send(b"".join(parts))
        for _ in range(5):
            answers = connection.read_all(7)
            assert [answer.status for answer in answers] == [200, 200, 200, 404, 200, 200, 200]
            assert scored(answers[0]) == expected[0]
            assert answers[1].json["versions"][0]["version"] == "v1"
            assert scored(answers[2]) == expected[1]
            assert scored(answers[5]) == expected[2]


def test_a_large_request_does_not_change_places_with_a_small_one(server: Server) -> None:
    """The large one is computed in a thread and takes longer, but was sent first."""
    rows = [row_of(number) for number in range(8_000)]
    with Connection(server) as connection:
        connection.send(rows_request(*rows) + rows_request(ROW))
        assert [len(scored(answer)["predictions"]) for answer in connection.read_all(2)] == [8_000, 1]


ask_one = st.integers(0, 63).map(lambda number: (number, rows_request(row_of(number))))
ask_chunked = st.tuples(st.integers(0, 63), st.lists(st.integers(1, 40), min_size=1, max_size=4)).map(
    lambda pick: (
        pick[0],
        request(headers=CHUNKED) + chunked(native(instances=[row_of(pick[0])]), pick[1]),
    )
)
ask_plain = st.integers(0, 63).map(lambda number: (number, rows_request(row_of(number), path=NATIVE + "?x")))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(ask_one, ask_one, ask_chunked, ask_plain), min_size=1, max_size=12), st.data())
def test_however_requests_are_cut_they_get_the_answers_they_get_alone(
    server: Server, expected: list[Any], asked: list[tuple[int, bytes]], data: st.DataObject
) -> None:
    stream = b"".join(part for _, part in asked)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    segments = [stream[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    with Connection(server) as connection:
        for segment in segments:
            connection.send(segment)
            time.sleep(0.001)  # so that the kernel hands the segments over one by one, not to wait for anything
        assert [scored(answer) for answer in connection.read_all(len(asked))] == [expected[n] for n, _ in asked]


# How requests arrive ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [NATIVE, SINGLE])
def test_a_request_may_be_split_at_any_byte(server: Server, path: str) -> None:
    data = request(native() if path == NATIVE else single(), path)
    with Connection(server) as connection:
        whole = connection.ask(data)
        for position in range(1, len(data)):
            connection.send(data[:position])
            time.sleep(0.0005)  # two segments, not one
            connection.send(data[position:])
            answer = connection.read()
            assert (answer.status, len(answer.headers)) == (200, len(whole.headers)), position


def test_a_request_may_come_byte_by_byte(server: Server, expected: list[Any]) -> None:
    data = rows_request(row_of(3)) * 2
    with Connection(server) as connection:
        connection.send(*(data[index : index + 1] for index in range(len(data))))
        assert [scored(answer) for answer in connection.read_all(2)] == [expected[3]] * 2


@pytest.mark.parametrize("extension", [b"", b";name=value", b';a="b;c";d'])
@pytest.mark.parametrize("sizes", [[1], [7, 1, 30], [10_000]])
def test_a_chunked_body_is_put_together(
    server: Server, expected: list[Any], sizes: list[int], extension: bytes
) -> None:
    body = chunked(native(instances=[row_of(5)]), sizes, extension)
    with Connection(server) as connection:
        for data in (request(headers=CHUNKED) + body, request(headers=CHUNKED) + body, rows_request(row_of(6))):
            connection.send(data)
        assert [scored(answer) for answer in connection.read_all(3)] == [expected[5], expected[5], expected[6]]


def test_a_chunked_body_may_be_split_at_any_byte(server: Server, expected: list[Any]) -> None:
    data = request(headers=CHUNKED) + chunked(native(instances=[row_of(5)]), [9, 50], b";x=y")
    with Connection(server) as connection:
        for position in range(1, len(data)):
            connection.send(data[:position])
            time.sleep(0.0005)  # two segments, not one
            assert scored(connection.ask(data[position:])) == expected[5], position


def test_a_trailer_after_a_chunked_body_is_read_over(server: Server, expected: list[Any]) -> None:
    body = chunked(native(instances=[row_of(5)]), [20])[:-2] + b"X-Model-Version: v2\r\nX-Sum: 1\r\n\r\n"
    with Connection(server) as connection:
        assert scored(connection.ask(request(headers=CHUNKED) + body)) == expected[5]
        assert scored(connection.ask(rows_request(row_of(6)))) == expected[6]


@pytest.mark.parametrize("path", [NATIVE, NATIVE + "?x=1"])
def test_a_client_that_expects_100_gets_it_before_it_sends_the_body(server: Server, path: str) -> None:
    body = native()
    head = request(path=path, headers=[("Expect", "100-continue"), ("Content-Length", str(len(body)))])
    with Connection(server) as connection:
        for _ in range(2):
            assert connection.ask(head).status == 100
            assert connection.ask(body).status == 200
        assert connection.ask(rows_request()).status == 200


def test_an_offer_of_another_protocol_is_declined_and_the_request_answered(server: Server, expected: list[Any]) -> None:
    """Java's client and `curl --http2` offer `h2c` with any request, also with one that has a body."""
    offer = [
        ("Connection", "Upgrade, HTTP2-Settings"),
        ("Upgrade", "h2c"),
        ("HTTP2-Settings", "AAMAAABkAAQCAAAAAAIAAAAA"),
    ]
    for path in (NATIVE, NATIVE + "?x=1"):
        data = rows_request(row_of(7), path=path, headers=offer)
        with Connection(server) as connection:
            assert scored(connection.ask(data)) == expected[7]
            for position in range(1, len(data), 9):
                connection.send(data[:position])
                time.sleep(0.0005)  # two segments, not one
                assert scored(connection.ask(data[position:])) == expected[7]
            connection.send(data + data + rows_request(row_of(8)))
            assert [scored(answer) for answer in connection.read_all(3)] == [expected[n] for n in (7, 7, 8)]


def test_a_websocket_is_refused_in_its_own_way(server: Server) -> None:
    headers = [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"),
               ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")]  # fmt: skip
    with Connection(server) as connection:
        connection.send(request(path=NATIVE, method="GET", headers=headers, content_type=None))
        assert connection.socket.recv(1_000).startswith(b"HTTP/1.1 403 ")


# How connections end ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("http", ["1.0", "1.1"])
@pytest.mark.parametrize("path", [NATIVE, NATIVE + "?x=1", SINGLE])
def test_connection_close_is_answered_and_obeyed(server: Server, path: str, http: str) -> None:
    body = single() if path == SINGLE else native()
    for _ in range(2):
        with Connection(server) as connection:
            answer = connection.ask(request(body, path, http=http, headers=[("Connection", "close")]) + rows_request())
            assert (answer.status, answer.header("connection")) == (200, "close")
            assert connection.is_closed()


@pytest.mark.parametrize("headers", [[], [("Connection", "keep-alive")]])
def test_http_1_0_is_answered_and_told_what_becomes_of_the_connection(
    server: Server, headers: list[tuple[str, str]]
) -> None:
    with Connection(server) as connection:
        answer = connection.ask(request(native(), http="1.0", headers=headers))
        assert (answer.status, answer.header("connection")) == (200, "close")
        assert connection.is_closed()


def test_all_requests_before_the_one_that_closes_are_answered(server: Server, expected: list[Any]) -> None:
    with Connection(server) as connection:
        connection.send(
            b"".join(rows_request(row_of(number)) for number in range(20))
            + rows_request(row_of(20), headers=[("Connection", "close")])
            + rows_request(row_of(21))
        )
        answers = connection.read_all(21)
        assert [scored(answer) for answer in answers] == expected[:21]
        assert [answer.header("connection") for answer in answers] == [None] * 20 + ["close"]
        assert connection.is_closed()


HALF_CLOSED = {
    "lane": (rows_request(), 1),
    "lane, many rows": (rows_request(*[ROW] * 8_000), 1),
    "lane, several": (rows_request(*[ROW] * 50) * 10, 10),
    "plain": (rows_request(path=NATIVE + "?x"), 1),
    "control": (request(b"", "/v1/models", "GET", content_type=None), 1),
    "mixed": (rows_request() + request(b"", "/v1/models", "GET", content_type=None) + rows_request(), 3),
}


@pytest.mark.parametrize("data", HALF_CLOSED)
def test_a_client_that_has_ended_its_side_still_gets_its_answers(server: Server, data: str) -> None:
    sent, count = HALF_CLOSED[data]
    for _ in range(5):
        with Connection(server) as connection:
            connection.send(sent)
            connection.end_sending()
            assert [answer.status for answer in connection.read_all(count)] == [200] * count
            assert connection.is_closed()


@pytest.mark.parametrize("data", [b"", b"POST /v1", rows_request()[:-1], rows_request(path=NATIVE + "?x")[:-1]])
def test_half_a_request_from_a_client_that_ended_its_side_closes_the_connection(server: Server, data: bytes) -> None:
    with Connection(server) as connection:
        connection.send(data)
        connection.end_sending()
        assert connection.is_closed()


@pytest.mark.parametrize("transport", ["lane", "plain"])
def test_clients_that_vanish_do_no_harm(server: Server, transport: str) -> None:
    """Before, within and after their request; whatever was begun for them is counted as ended."""
    path = NATIVE + ("?x=1" if transport == "plain" else "")
    large = rows_request(*[ROW] * 8_000, path=path)
    for data in (b"", b"POST ", large[:200], large[:-1], large, large * 3, rows_request(path=path) * 50) * 4:
        connection = Connection(server)
        connection.send(data)
        connection.reset()
    wait_until(lambda: server.metric("shokado_in_flight") == 0)
    with Connection(server) as connection:
        assert connection.ask(rows_request()).status == 200
    assert "Traceback" not in server.log.read_text()


# What is refused --------------------------------------------------------------------------------------------------


def assert_refused(connection: Connection, status: int, code: str) -> Answer:
    answer = connection.read()
    assert (answer.status, answer.code, answer.header("connection")) == (status, code, "close"), answer
    with contextlib.suppress(OSError):
        connection.end_sending()  # else the server would linger for what is still sent
    assert connection.is_closed()
    return answer


def one_header(size: int) -> bytes:
    return rows_request(headers=[("x-padding", "p" * size)])


def test_headers_up_to_the_limit_are_taken(server: Server) -> None:
    with Connection(server) as connection:
        assert connection.ask(one_header(MAX_HEADER_BYTES - 300)).status == 200
        assert connection.ask(one_header(MAX_HEADER_BYTES - 300)).status == 200


@pytest.mark.parametrize(
    "data",
    [
        one_header(MAX_HEADER_BYTES),
        one_header(10 * MAX_HEADER_BYTES),
        rows_request(headers=[(f"x-{number}", "p" * 100) for number in range(1_000)]),
        rows_request(path=NATIVE + "?" + "x" * MAX_HEADER_BYTES),
        b"POST /predict HTTP/1.1\r\nx-endless: " + b"p" * 4 * MAX_HEADER_BYTES,
        b"POST /" + b"p" * 8 * MAX_HEADER_BYTES,
    ],
    ids=["one header", "a long header", "many headers", "a long path", "a header without an end", "an endless path"],
)
def test_headers_beyond_the_limit_are_refused(server: Server, data: bytes) -> None:
    with Connection(server) as connection:
        connection.send(rows_request())
        assert connection.read().status == 200
        for start in range(0, len(data), 16_384):
            connection.send(data[start : start + 16_384])
            time.sleep(0.001)  # as a network would, in several segments
        assert_refused(connection, 431, "headers_too_large")


@pytest.mark.parametrize("path", [NATIVE, NATIVE + "?x"])
def test_what_does_not_end_after_a_chunked_body_is_refused(server: Server, path: str) -> None:
    """A trailer or a chunk extension must not be a way around the limits."""
    for endless in (b"0\r\nx-endless: ", b"5;endless="):
        with Connection(server) as connection:
            connection.send(request(path=path, headers=CHUNKED) + b"2\r\n{}\r\n" + endless)
            for _ in range(20):
                time.sleep(0.001)  # as a network would, in several segments
                connection.send(b"p" * 32_768)
            assert_refused(connection, 431, "headers_too_large")


def test_a_body_that_is_announced_too_long_is_refused_unread(server: Server) -> None:
    head = request(headers=[("content-length", str(MAX_BODY_BYTES + 1)), ("x-request-id", "big-1")])
    with Connection(server) as connection:
        connection.send(rows_request() + head)
        assert connection.read().status == 200
        assert assert_refused(connection, 413, "body_too_large").header("x-request-id") == "big-1"


def test_a_client_that_goes_on_sending_can_read_why_it_is_refused(server: Server) -> None:
    """Closing at once would reset the connection, and the answer with it; the server closes a little later."""
    with Connection(server) as connection:
        connection.send(request(headers=[("content-length", str(4 * MAX_BODY_BYTES))]))
        for _ in range(64):
            connection.send(b" " * 65_536)
        answer = connection.read()
        assert (answer.status, answer.code, answer.header("connection")) == (413, "body_too_large", "close")
        assert connection.is_closed()


def test_a_body_of_chunks_is_refused_once_it_is_too_long(server: Server) -> None:
    part = b"100000\r\n" + b" " * 2**20 + b"\r\n"
    with Connection(server) as connection:
        connection.send(request(headers=CHUNKED), part * 16)
        connection.send(b"1\r\n \r\n")
        assert_refused(connection, 413, "body_too_large")


BROKEN = {
    "no HTTP": b"HELO shokado\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    "no version": b"POST /predict\r\n\r\n",
    "HTTP/3.7": b"POST /predict HTTP/3.7\r\nhost: x\r\n\r\n",
    "a header without a name": b"POST /predict HTTP/1.1\r\n: x\r\n\r\n",
    "a space before the colon": b"POST /predict HTTP/1.1\r\ncontent-length : 2\r\n\r\n{}",
    "a length that is no number": b"POST /predict HTTP/1.1\r\ncontent-length: two\r\n\r\n{}",
    "a negative length": b"POST /predict HTTP/1.1\r\ncontent-length: -2\r\n\r\n{}",
    "a length beyond counting": b"POST /predict HTTP/1.1\r\ncontent-length: 99999999999999999999999\r\n\r\n{}",
    "two lengths": b"POST /predict HTTP/1.1\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{} ",
    "a length and chunks": request(b"0\r\n\r\n", headers=[("content-length", "5"), *CHUNKED]),
    "chunks and a length": request(b"0\r\n\r\n", headers=[*CHUNKED, ("content-length", "5")]),
    "chunks that are not last": b"POST /predict HTTP/1.1\r\ntransfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "a bare LF": rows_request().replace(b"\r\n", b"\n"),
    "a CR in a header": b"POST /predict HTTP/1.1\r\nx-model-version: v1\rv2\r\ncontent-length: 2\r\n\r\n{}",
    "a NUL in a header": b"POST /predict HTTP/1.1\r\nx-model-version: v\x001\r\ncontent-length: 2\r\n\r\n{}",
}
BROKEN_BODIES = {
    "a chunk size that is no number": request(b"zz\r\n{}\r\n0\r\n\r\n", headers=CHUNKED),
    "a chunk longer than it says": request(b"1\r\n{}\r\n0\r\n\r\n", headers=CHUNKED),
    "the same, not on the lane": request(b"1\r\n{}\r\n0\r\n\r\n", NATIVE + "?x", headers=CHUNKED),
}


@pytest.mark.parametrize("data", BROKEN | BROKEN_BODIES)
def test_broken_http_is_refused_after_the_answers_to_what_came_before(server: Server, data: str) -> None:
    with Connection(server) as connection:
        connection.send(rows_request() + (BROKEN | BROKEN_BODIES)[data] + rows_request())
        assert connection.read().status == 200
        assert_refused(connection, 400, "bad_header" if data in BROKEN else "malformed_body")


def test_broken_http_behind_a_request_off_the_lane_does_not_lose_its_answer(server: Server) -> None:
    with Connection(server) as connection:
        connection.send(request(b"", "/v1/models", "GET", content_type=None) + BROKEN["no HTTP"])
        assert connection.read().status == 200
        assert connection.is_closed()


@pytest.mark.parametrize("path", [NATIVE, SINGLE])
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH"])
def test_other_methods_on_a_prediction_route_are_not_allowed(server: Server, method: str, path: str) -> None:
    with Connection(server) as connection:
        connection.send(request(b"", path, method, content_type=None))
        answer = connection.read(to_head=method == "HEAD")
        assert (answer.status, answer.header("allow")) == (405, "OPTIONS, POST")
        if method != "HEAD":
            assert answer.code == "method_not_allowed"
        assert connection.ask(rows_request()).status == 200


# Remembered heads -------------------------------------------------------------------------------------------------


def test_the_same_head_with_another_body_is_another_request(server: Server, expected: list[Any]) -> None:
    one, other = native(instances=[row_of(1)]), native(instances=[row_of(2)])
    length = max(len(one), len(other))
    with Connection(server) as connection:
        for _ in range(3):
            assert scored(connection.ask(request(one.ljust(length)))) == expected[1]
            assert scored(connection.ask(request(other.ljust(length)))) == expected[2]
            assert connection.ask(request(b"[" * length)).status == 400


@pytest.mark.parametrize(
    ("name", "values", "seen"),
    [
        ("X-Model-Version", ["v1", "v2"], lambda answer: answer.header("x-model-version")),
        ("X-Request-ID", ["id-1", "id-2"], lambda answer: answer.header("x-request-id")),
        ("X-Environment", ["staging", "nowhere"], lambda answer: {200: "staging", 404: "nowhere"}[answer.status]),
    ],
    ids=["version", "id", "environment"],
)
def test_heads_that_differ_in_one_value_are_never_taken_for_each_other(
    server: Server, name: str, values: list[str], seen: Any
) -> None:
    with Connection(server) as connection:
        for _ in range(5):
            data = [request(native(version=None), headers=[(name, value)]) for value in values]
            assert [seen(connection.ask(part)) for part in data] == values
            connection.send(b"".join(data))
            assert [seen(answer) for answer in connection.read_all(2)] == values


def test_heads_that_differ_in_the_accepted_type_are_never_taken_for_each_other(server: Server) -> None:
    with Connection(server) as connection:
        for _ in range(3):
            for wanted in ("application/json", "application/octet-stream"):
                answer = connection.ask(request(native(), headers=[("accept", wanted)]))
                assert answer.header("content-type") == wanted


def test_more_heads_than_are_remembered_are_all_answered(server: Server) -> None:
    """Twice as many distinct heads as fit, in two rounds, so that most are forgotten in between."""
    with Connection(server) as connection:
        for _ in range(2):
            ids = [f"request-{number}" for number in range(2_100)]
            for start in range(0, len(ids), 100):
                part = ids[start : start + 100]
                connection.send(b"".join(rows_request(headers=[("x-request-id", one)]) for one in part))
                assert [answer.header("x-request-id") for answer in connection.read_all(100)] == part


def test_a_blank_line_before_a_request_is_read_over(server: Server, expected: list[Any]) -> None:
    with Connection(server) as connection:
        for _ in range(3):
            assert scored(connection.ask(b"\r\n" + rows_request(row_of(4)))) == expected[4]


def test_a_remembered_head_inside_a_body_is_not_a_request(server: Server) -> None:
    """Request smuggling: what the length covers is the body, whatever it looks like."""
    with Connection(server) as connection:
        assert connection.ask(rows_request()).status == 200
        inner = rows_request()
        connection.send(request(inner)[: -len(inner)])
        time.sleep(0.01)  # two segments, the second of which looks like a known request
        assert connection.ask(inner).status == 400
        assert connection.ask(rows_request()).status == 200


# Many and slow clients --------------------------------------------------------------------------------------------


def resident_bytes(server: Server) -> int:
    return sum(int(psutil.Process(pid).memory_info().rss) for pid in server.workers())


FLOODS = {
    "lane": rows_request(),
    "plain": rows_request(path=NATIVE + "?x"),
    "control": b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n",
}


@pytest.mark.parametrize("flood", FLOODS)
def test_a_client_that_does_not_read_is_not_read_from_either(server: Server, flood: str) -> None:
    """It costs a bounded number of bytes, and others are served meanwhile."""
    before = resident_bytes(server)
    data = FLOODS[flood] * 2_000
    with Connection(server) as slow:
        slow.socket.settimeout(1)
        sent = 0
        try:
            while sent < 256 * 2**20:
                sent += slow.socket.send(data)
        except TimeoutError:
            pass
        assert sent < 64 * 2**20, "the server reads on although nobody reads its answers"
        with Connection(server) as other:
            started = time.monotonic()
            assert all(other.ask(rows_request()).status == 200 for _ in range(20))
            assert time.monotonic() - started < 5
        assert resident_bytes(server) - before < 64 * 2**20
    wait_until(lambda: server.metric("shokado_in_flight") == 0)


def test_many_pipelined_requests_are_answered_to_a_slow_reader_in_their_order(server: Server) -> None:
    """A client that writes thousands of requests before it reads the first answer, then reads them all."""
    count = 20_000
    requests = [rows_request(headers=[("x-request-id", f"{number:05d}")]) for number in range(count)]
    with Connection(server) as connection:
        writer = threading.Thread(target=lambda: connection.send(b"".join(requests)), daemon=True)
        writer.start()
        for number in range(count):
            assert connection.read().header("x-request-id") == f"{number:05d}"
        writer.join(10)
        assert not writer.is_alive()


def test_a_body_in_single_bytes_costs_little_memory(server: Server) -> None:
    """A chunk of one byte must not cost an object of fifty."""
    before = resident_bytes(server)
    part = b"1\r\n \r\n" * 100_000
    with Connection(server) as connection:
        connection.send(request(headers=CHUNKED))
        for _ in range(15):
            connection.send(part)
        assert resident_bytes(server) - before < 24 * 2**20
        connection.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(native()), native()))
        assert connection.read().status == 200


def test_httpx_and_the_lane_understand_each_other(server: Server) -> None:
    with httpx.Client(base_url=server.url, timeout=20) as client:
        for _ in range(5):
            answer = client.post(NATIVE, json={"instances": [ROW, OTHER_ROW]})
            assert answer.status_code == 200
            assert len(answer.json()["predictions"]) == 2
            assert client.get("/v1/models").status_code == 200
