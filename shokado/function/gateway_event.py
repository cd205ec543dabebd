"""Events of AWS Lambda: what a gateway in front of the function sends, read into a request, and the answer to it.

Answered are REST APIs of API Gateway (and HTTP APIs with payload 1.0), HTTP APIs with payload 2.0, and function URLs,
whose events are those of HTTP APIs. Sources: the API Gateway developer guide, "Set up Lambda proxy integrations", and
the Lambda developer guide, "Invoking Lambda function URLs".
"""

import base64
import binascii
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import unquote, urlencode

from shokado.dialects.problem import Problem

Headers = list[tuple[bytes, bytes]]
_TEXT = (b"text/", b"application/json")
"""How content types begin whose bodies an answer holds as text; others are base64, which gateways decode again."""


class NotHttp(Exception):
    """The event is no request that somebody could be answered by HTTP: a queue's, a timer's, a test's."""


class EventKind(StrEnum):
    """The payload that a gateway sends, and expects back."""

    REST = "1.0"
    HTTP = "2.0"


@dataclass(frozen=True, slots=True)
class EventRequest:
    """A request as HTTP has it; names of headers are in lower case."""

    kind: EventKind
    method: str
    path: str
    """Decoded, and without a query."""
    query: bytes
    headers: Headers
    body: bytes
    client: str
    """Address of who asked the gateway, as that saw it; empty where it does not say."""


@dataclass(frozen=True, slots=True)
class EventAnswer:
    """An answer as HTTP has it."""

    status: int
    headers: Headers
    body: bytes


def kind_of(event: Any) -> EventKind:
    """Which payload it is. Raises `NotHttp`."""
    context = event.get("requestContext") if isinstance(event, dict) else None
    if isinstance(context, dict):
        if isinstance(context.get("http"), dict):
            return EventKind.HTTP
        if "httpMethod" in event and "elb" not in context:
            return EventKind.REST
    keys = ", ".join(sorted(map(str, event))[:8]) if isinstance(event, dict) else type(event).__name__
    raise NotHttp(
        "this is no event of API Gateway (REST or HTTP) or a function URL, which have a requestContext and a method; "
        f"it has: {keys or 'nothing'}"
    )


def read_event(event: Mapping[str, Any], kind: EventKind) -> EventRequest:
    """The request of an event. Raises `Problem` (400) that names the field which cannot be read."""
    if kind is EventKind.HTTP:
        http = event["requestContext"]["http"]
        method, path = _text(http, "method", "requestContext.http."), _text(http, "path", "requestContext.http.")
        query, headers = _bytes(_text(event, "rawQueryString", default="")), [*_single(event), *_cookies(event)]
        client = _text(http, "sourceIp", "requestContext.http.", default="")
    else:
        method, path = _text(event, "httpMethod"), _text(event, "path")
        query, headers = _query(event), [*_repeated(event)]
        identity = _object(event["requestContext"], "identity", "requestContext.")
        client = _text(identity, "sourceIp", "requestContext.identity.", default="")
    body = _body(event)
    # The gateway's own would be that of the body as it came, which it may have changed.
    headers = [line for line in headers if line[0] not in (b"content-length", b"transfer-encoding")]
    if body:
        headers.append((b"content-length", b"%d" % len(body)))
    return EventRequest(kind, method.upper(), _bytes(unquote(path)).decode() or "/", query, headers, body, client)


def answer_event(answer: EventAnswer, kind: EventKind) -> dict[str, Any]:
    """The answer in the form that a gateway of this kind expects."""
    values: dict[str, list[str]] = {}
    for name, value in answer.headers:
        values.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    text = _as_text(answer)
    said: dict[str, Any] = {
        "statusCode": answer.status,
        "body": text if text is not None else base64.b64encode(answer.body).decode("ascii"),
        "isBase64Encoded": text is None,
    }
    if kind is EventKind.REST:
        return {"multiValueHeaders": values, **said}
    cookies = values.pop("set-cookie", [])
    headers = {name: ", ".join(several) for name, several in values.items()}
    return {"headers": headers, **said} | ({"cookies": cookies} if cookies else {})


def _as_text(answer: EventAnswer) -> str | None:
    """The body as text; None where it is none."""
    lines = dict(answer.headers)
    if answer.body and (b"content-encoding" in lines or not lines.get(b"content-type", b"").startswith(_TEXT)):
        return None
    try:
        return answer.body.decode()
    except UnicodeDecodeError:
        return None


def _body(event: Mapping[str, Any]) -> bytes:
    text = _text(event, "body", default="")
    if not event.get("isBase64Encoded"):
        # Half a character is for the dialect to refuse, as it refuses other text that is none.
        return text.encode("utf-8", "surrogatepass")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise _malformed("body", "is not base64, which isBase64Encoded says it is") from None


def _single(event: Mapping[str, Any]) -> Iterator[tuple[bytes, bytes]]:
    headers = _object(event, "headers")
    for name in headers:
        yield _bytes(name.lower()), _bytes(_text(headers, name, "headers."))


def _cookies(event: Mapping[str, Any]) -> Iterator[tuple[bytes, bytes]]:
    cookies = event.get("cookies") or []
    if not isinstance(cookies, list) or not all(isinstance(cookie, str) for cookie in cookies):
        raise _malformed("cookies", "is not a list of texts")
    if cookies:
        yield b"cookie", _bytes("; ".join(cookies))


def _repeated(event: Mapping[str, Any]) -> Iterator[tuple[bytes, bytes]]:
    """Each value of each header, so that two which contradict are seen as such."""
    several = _object(event, "multiValueHeaders")
    for name, values in several.items():
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise _malformed(f"multiValueHeaders.{name}", "is not a list of texts")
        yield from ((_bytes(name.lower()), _bytes(value)) for value in values)
    if not several:
        yield from _single(event)


def _query(event: Mapping[str, Any]) -> bytes:
    query = _object(event, "multiValueQueryStringParameters") or _object(event, "queryStringParameters")
    return urlencode(query, doseq=True, errors="replace").encode()


def _bytes(text: str) -> bytes:
    """The text as bytes, where half a character of JSON means nothing."""
    return text.encode("utf-8", "replace")


def _object(source: Mapping[str, Any], name: str, where: str = "") -> dict[str, Any]:
    """The object of that name, which may be missing or null."""
    found = source.get(name)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise _malformed(where + name, "is not an object")
    return found


def _text(source: Mapping[str, Any], name: str, where: str = "", default: str | None = None) -> str:
    """The text of that name, which may be missing or null where there is a default."""
    found = source.get(name)
    if found is None and default is not None:
        return default
    if not isinstance(found, str):
        raise _malformed(where + name, "is missing" if found is None else f"is {type(found).__name__}, not text")
    return found


def _malformed(field: str, fault: str) -> Problem:
    return Problem("malformed_request", f"the event cannot be read: {field[:200]} {fault}")
