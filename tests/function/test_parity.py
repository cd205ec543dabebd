"""A function answers like a server: the same status, headers and body for the same request, through each gateway."""

from collections.abc import Iterator

import pytest

from tests.dialects import open_inference_cases
from tests.dialects.cases import BAD, GOOD, OTHERS, Case
from tests.function.events import GATEWAYS, read_answer, rest_event
from tests.function.functions import Function, opened
from tests.support.raw_http import Connection
from tests.support.server import Server
from tests.transports.test_parity import assert_alike, essence

MAX_EVENT_BYTES = 6_000_000
"""What Lambda takes of an event at most, base64 included."""
CASES = [
    case for case in (*GOOD, *BAD, *OTHERS, *open_inference_cases.CASES) if len(case.body) * 4 / 3 < MAX_EVENT_BYTES
]


@pytest.fixture(scope="module")
def function(models: object) -> Iterator[Function]:
    with opened() as function:
        yield function


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_function_answers_like_a_server(server: Server, function: Function, case: Case) -> None:
    kept = dict(case.headers).get("x-request-id")
    with Connection(server) as connection:
        expected = essence(connection.ask(case.bytes_for("lane")), kept)
    assert expected.status == case.status
    headers = [("host", "shokado"), *case.headers]
    if case.content_type is not None:
        headers.append(("content-type", case.content_type))
    names = [name.lower() for name, _ in headers]
    repeated = len(set(names)) < len(names)
    # An HTTP API joins the values of a header that comes twice, before anybody behind it can see that.
    for gateway in [rest_event] if repeated else GATEWAYS.values():
        event = gateway("POST", case.route, headers, case.body)
        assert_alike(essence(read_answer(function.answer(event)), kept), expected)


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"])
@pytest.mark.parametrize("path", ["/livez", "/ping", "/v2", "/v1/models/predict", "/invocations/", "/nowhere"])
def test_other_methods_and_routes_are_answered_alike(
    server: Server, function: Function, method: str, path: str
) -> None:
    data = f"{method} {path} HTTP/1.1\r\nhost: shokado\r\nx-request-id: 7\r\n\r\n".encode()
    with Connection(server) as connection:
        connection.send(data)
        expected = connection.read(to_head=method == "HEAD")
    for gateway in GATEWAYS.values():
        answer = read_answer(function.answer(gateway(method, path, [("host", "shokado"), ("x-request-id", "7")])))
        assert (answer.status, answer.header("allow")) == (expected.status, expected.header("allow"))
        assert answer.header("content-type") == expected.header("content-type")
