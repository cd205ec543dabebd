"""Events become the requests that they are of, as another library reads them, and what is none is refused."""

import json
import subprocess
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shokado.dialects.problem import Problem
from shokado.function.asgi_call import scope_of
from shokado.function.gateway_event import EventAnswer, EventKind, NotHttp, answer_event, kind_of, read_event
from tests.function.events import CLIENT, GATEWAYS, Gateway, http_event, read_answer, rest_event
from tests.function.runtime import PACKAGES_PYTHON, needs_lambda_packages

MANGUM = """
import json, sys
from mangum import Mangum
seen = {}
async def app(scope, receive, send):
    message = await receive()
    seen.update(
        {name: scope[name] for name in ("type", "method", "path", "scheme")}, query=scope["query_string"].decode(),
        headers=sorted([name.decode(), value.decode()] for name, value in scope["headers"]),
        client=scope["client"][0], body=message["body"].hex(),
    )
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})
told = []
for event in json.load(sys.stdin):
    Mangum(app, lifespan="off")(event, None)
    told.append(dict(seen))
print(json.dumps(told))
"""
REQUESTS: list[tuple[str, str, list[tuple[str, str]], bytes]] = [
    ("GET", "/livez", [], b""),
    ("GET", "/v1/traffic-split/explain?unit=a%20b&weights=v1%3A50&weights=v2%3A50", [("Accept", "*/*")], b""),
    ("POST", "/v1/models/predict", [("Content-Type", "application/json"), ("X-Unit-ID", "user-7")], b'{"a": 1}'),
    ("POST", "/v1/models/predict?x=", [("content-type", "application/octet-stream")], bytes(range(256))),
    ("POST", "/v2/models/customers/versions/v%31/infer", [("host", "api.example.com")], "é".encode()),
    ("DELETE", "/", [("Cookie", "a=b"), ("Cookie", "c=d"), ("x-forwarded-proto", "https")], b""),
]


def as_mangum_says(event: dict[str, Any]) -> dict[str, Any]:
    request = read_event(event, kind_of(event))
    scope = scope_of(request)
    headers = sorted([name.decode(), value.decode()] for name, value in request.headers if name != b"content-length")
    return {
        "type": scope["type"], "method": scope["method"], "path": scope["path"], "scheme": scope["scheme"],
        "query": scope["query_string"].decode(), "headers": headers, "client": scope["client"][0],
        "body": request.body.hex(),
    }  # fmt: skip


@needs_lambda_packages
def test_requests_are_those_that_mangum_reads() -> None:
    """Mangum joins the values of a header that a REST API keeps apart; else it reads the same."""
    events = [gateway(*request) for gateway in GATEWAYS.values() for request in REQUESTS]
    ended = subprocess.run(
        [PACKAGES_PYTHON, "-c", MANGUM], input=json.dumps(events), capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    for event, expected in zip(events, json.loads(ended.stdout), strict=True):
        found = as_mangum_says(event)
        apart: dict[str, str] = {}
        for name, value in found["headers"]:
            apart[name] = f"{apart[name]}, {value}" if name in apart else value
        assert found | {"headers": sorted(map(list, apart.items()))} == expected


@pytest.mark.parametrize("gateway", GATEWAYS.values(), ids=GATEWAYS)
def test_who_asks_is_who_the_gateway_saw(gateway: Gateway) -> None:
    event = gateway("GET", "/livez", [("X-Forwarded-For", "127.0.0.1")])
    assert read_event(event, kind_of(event)).client == CLIENT


def test_headers_of_a_rest_api_stay_apart() -> None:
    event = rest_event("POST", "/", [("X-Model-Version", "v1"), ("x-model-version", "v2")])
    request = read_event(event, EventKind.REST)
    assert request.headers == [(b"x-model-version", b"v1"), (b"x-model-version", b"v2")]


def test_the_length_of_a_body_is_that_of_what_it_says() -> None:
    event = http_event("POST", "/", [("content-length", "4711")], b"12345")
    assert (b"content-length", b"5") in read_event(event, EventKind.HTTP).headers


@pytest.mark.parametrize(
    "event",
    [
        None, [], "text", 7, {}, {"key1": "value1"}, {"Records": [{"eventSource": "aws:sqs"}]},
        {"source": "aws.events", "detail-type": "Scheduled Event"}, {"requestContext": None},
        {"requestContext": {"elb": {"targetGroupArn": "arn"}}, "httpMethod": "GET", "path": "/"},
        {"requestContext": {"routeKey": "$connect", "eventType": "CONNECT"}},
    ],
)  # fmt: skip
def test_what_nobody_could_be_answered_by_http_is_an_error(event: Any) -> None:
    """Answered with a status, a queue's messages would count as done."""
    with pytest.raises(NotHttp, match="no event of API Gateway"):
        kind_of(event)


def _with(gateway: Gateway, **changes: Any) -> dict[str, Any]:
    return gateway("POST", "/v1/models/predict", [("content-type", "application/json")], b"{}") | changes


@pytest.mark.parametrize(
    ("event", "field"),
    [
        (_with(rest_event, body="not base64!"), "body"),
        (_with(rest_event, body="e30"), "body"),
        (_with(rest_event, body="e30=\n"), "body"),
        (_with(rest_event, body="é"), "body"),
        (_with(http_event, body={"instances": []}), "body"),
        (_with(http_event, body=7, isBase64Encoded=True), "body"),
        (_with(http_event, headers=[]), "headers"),
        (_with(http_event, headers={"x": 1}), "headers.x"),
        (_with(http_event, headers={"x": None}), "headers.x"),
        (_with(http_event, cookies="a=b"), "cookies"),
        (_with(http_event, cookies=[1]), "cookies"),
        (_with(http_event, rawQueryString=1), "rawQueryString"),
        (_with(http_event, requestContext={"http": {}}), "requestContext.http.method"),
        (_with(http_event, requestContext={"http": {"method": "GET"}}), "requestContext.http.path"),
        (_with(rest_event, multiValueHeaders={"x": "y"}), "multiValueHeaders.x"),
        (_with(rest_event, multiValueHeaders={"x": [None]}), "multiValueHeaders.x"),
        (_with(rest_event, multiValueHeaders=7), "multiValueHeaders"),
        (_with(rest_event, httpMethod=None), "httpMethod"),
        (_with(rest_event, path=7), "path"),
        (_with(rest_event, queryStringParameters="a=b", multiValueQueryStringParameters=None), "queryStringParam"),
        (_with(rest_event, requestContext={"identity": 7}), "requestContext.identity"),
    ],
)
def test_an_event_that_cannot_be_read_names_the_field(event: dict[str, Any], field: str) -> None:
    with pytest.raises(Problem) as caught:
        read_event(event, kind_of(event))
    assert (caught.value.status, caught.value.code) == (400, "malformed_request")
    assert f"cannot be read: {field}" in caught.value.message


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
FIELDS = (
    "body", "isBase64Encoded", "headers", "multiValueHeaders", "cookies", "path", "httpMethod", "rawQueryString",
    "queryStringParameters", "multiValueQueryStringParameters", "requestContext",
)  # fmt: skip


@given(
    st.sampled_from([*GATEWAYS.values()]),
    st.dictionaries(st.sampled_from(FIELDS), json_values, min_size=1, max_size=3),
)
def test_any_event_is_a_request_or_refused(gateway: Gateway, changes: dict[str, Any]) -> None:
    event = _with(gateway, **changes)
    try:
        request = read_event(event, kind_of(event))
    except (NotHttp, Problem):
        return
    assert scope_of(request)["path"]
    request.path.encode()


def test_a_context_within_is_any_json_as_well() -> None:
    for http in (
        {"method": 1, "path": "/"},
        {"method": "GET", "path": []},
        {"method": "GET", "path": "/", "sourceIp": 1},
    ):
        with pytest.raises(Problem):
            read_event({"requestContext": {"http": http}}, EventKind.HTTP)


@pytest.mark.parametrize("kind", EventKind)
@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ([(b"content-type", b"application/json")], b'{"a":1}'),
        ([(b"content-type", b"application/json; charset=utf-8")], "é".encode()),
        ([(b"content-type", b"text/plain")], b"\xff\xfe"),
        ([(b"content-type", b"application/octet-stream")], b"text all the same"),
        ([(b"content-type", b"application/json"), (b"content-encoding", b"gzip")], b"\x1f\x8b\x08"),
        ([], b""),
        ([(b"set-cookie", b"a=b"), (b"set-cookie", b"c=d"), (b"vary", b"Origin"), (b"vary", b"Accept")], b""),
    ],
)
def test_an_answer_says_what_it_said(kind: EventKind, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    answer = answer_event(EventAnswer(200, headers, body), kind)
    read = read_answer(json.loads(json.dumps(answer)))
    assert (read.status, read.body) == (200, body)
    expected = sorted((name.decode(), value.decode()) for name, value in headers)
    if kind is EventKind.HTTP:
        vary = ", ".join(value.decode() for name, value in headers if name == b"vary")
        expected = [line for line in expected if line[0] != "vary"] + ([("vary", vary)] if vary else [])
    assert sorted(read.headers) == sorted(expected)
