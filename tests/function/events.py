"""Events as gateways send them, of requests as HTTP has them, and answers read as gateways read them.

The shapes are those of AWS's documentation: "Set up Lambda proxy integrations for REST APIs" (format 1.0), "Create
AWS Lambda proxy integrations for HTTP APIs" (1.0 and 2.0), "Invoking Lambda function URLs".
"""

import base64
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import parse_qs, parse_qsl

from tests.support.raw_http import Answer

Lines = Sequence[tuple[str, str]]
CLIENT = "203.0.113.7"


def rest_event(method: str, target: str, headers: Lines = (), body: bytes = b"") -> dict[str, Any]:
    """A REST API's, with `*/*` among its binary media types: every body is base64."""
    path, _, query = target.partition("?")
    several: dict[str, list[str]] = {}
    for name, value in headers:
        several.setdefault(name, []).append(value)
    return {
        "resource": "/{proxy+}",
        "path": path,
        "httpMethod": method,
        "headers": {name: values[-1] for name, values in several.items()} or None,
        "multiValueHeaders": several or None,
        "queryStringParameters": dict(parse_qsl(query, keep_blank_values=True)) or None,
        "multiValueQueryStringParameters": parse_qs(query, keep_blank_values=True) or None,
        "pathParameters": {"proxy": path.lstrip("/")},
        "stageVariables": None,
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "id",
            "httpMethod": method,
            "identity": {"sourceIp": CLIENT, "userAgent": "test"},
            "path": f"/prod{path}",
            "requestId": "c6af9ac6-7b61-11e6-9a41-93e8deadbeef",
            "resourcePath": "/{proxy+}",
            "stage": "prod",
        },
        "body": base64.b64encode(body).decode() if body else None,
        "isBase64Encoded": bool(body),
    }


def http_event(method: str, target: str, headers: Lines = (), body: bytes = b"") -> dict[str, Any]:
    """An HTTP API's with payload 2.0: what is no text is base64, and values of a header that repeats are joined."""
    path, _, query = target.partition("?")
    joined: dict[str, str] = {}
    cookies = [value for name, value in headers if name.lower() == "cookie"]
    for name, value in headers:
        if name.lower() != "cookie":
            joined[name.lower()] = f"{joined[name.lower()]},{value}" if name.lower() in joined else value
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": query,
        "headers": joined,
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "api-id",
            "domainName": "id.execute-api.us-east-1.amazonaws.com",
            "http": {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": CLIENT, "userAgent": "test"},
            "requestId": "id",
            "routeKey": "$default",
            "stage": "$default",
        },
        **_body(body, joined.get("content-type", "")),
    }
    return event | ({"cookies": cookies} if cookies else {})


def url_event(method: str, target: str, headers: Lines = (), body: bytes = b"") -> dict[str, Any]:
    """A function URL's: as an HTTP API's, from another domain."""
    event = http_event(method, target, headers, body)
    event["requestContext"] |= {"domainName": "id.lambda-url.us-east-1.on.aws", "authorizer": None}
    return event


Gateway = Callable[..., dict[str, Any]]
GATEWAYS: dict[str, Gateway] = {"REST API": rest_event, "HTTP API": http_event, "function URL": url_event}


def _body(body: bytes, content_type: str) -> dict[str, Any]:
    """Base64 unless the type is of text, as API Gateway decides it; a text that is none cannot stand in JSON."""
    if content_type.startswith(("text/", "application/json", "application/xml", "application/javascript")):
        try:
            return {"body": body.decode(), "isBase64Encoded": False}
        except UnicodeDecodeError:
            pass
    return {"body": base64.b64encode(body).decode(), "isBase64Encoded": True} if body else {"isBase64Encoded": False}


def read_answer(answer: dict[str, Any]) -> Answer:
    """What a gateway would send to its client."""
    assert isinstance(answer["statusCode"], int)
    assert isinstance(answer["isBase64Encoded"], bool)
    body = base64.b64decode(answer["body"], validate=True) if answer["isBase64Encoded"] else answer["body"].encode()
    lines = [(name, value) for name, value in answer.get("headers", {}).items()]
    lines += [(name, value) for name, values in answer.get("multiValueHeaders", {}).items() for value in values]
    lines += [("set-cookie", cookie) for cookie in answer.get("cookies", ())]
    return Answer(answer["statusCode"], tuple(lines), body)
