"""Outside: the address that clients ask at, as trusted proxies tell it and others forge it."""

from ipaddress import ip_network
from typing import Any

import pytest

from shokado.control.outside import route_of, seen_from_outside

TRUSTED = [ip_network("10.0.0.0/8")]


def seen(*headers: tuple[str, str], peer: str = "10.0.0.1", prefix: str = "") -> tuple[str, str, str, str]:
    """Scheme, host, prefix and path."""
    lines = [(name.encode(), value.encode()) for name, value in (("host", "inside:3000"), *headers)]
    scope = {"type": "http", "scheme": "http", "client": (peer, 5), "path": "/docs", "headers": lines}
    found = seen_from_outside(scope, prefix, TRUSTED)
    assert route_of(found) == "/docs"
    host = dict(found["headers"])[b"host"].decode()
    return found["scheme"], host, found["root_path"], found["path"]


INSIDE = ("http", "inside:3000", "", "/docs")


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], INSIDE),
        ([("x-forwarded-proto", "https")], ("https", "inside:3000", "", "/docs")),
        ([("x-forwarded-host", "a.example")], ("http", "a.example", "", "/docs")),
        ([("x-forwarded-host", "[::1]:8443")], ("http", "[::1]:8443", "", "/docs")),
        ([("x-forwarded-prefix", "/shokado/")], ("http", "inside:3000", "/shokado", "/shokado/docs")),
        ([("x-forwarded-prefix", "/v1")], ("http", "inside:3000", "/v1", "/v1/docs")),
        (
            [("x-forwarded-prefix", "/forged"), ("x-forwarded-prefix", "/a/b")],
            ("http", "inside:3000", "/a/b", "/a/b/docs"),
        ),
        ([("x-forwarded-proto", "ftp, https")], ("https", "inside:3000", "", "/docs")),
        ([("x-forwarded-proto", "javascript")], INSIDE),
        ([("x-forwarded-host", "a b")], INSIDE),
        ([("x-forwarded-host", "a@b/c")], INSIDE),
        ([("x-forwarded-prefix", "//evil.example")], INSIDE),
        ([("x-forwarded-prefix", "/a?b")], INSIDE),
        ([("x-forwarded-prefix", "shokado")], INSIDE),
    ],
)
def test_what_a_trusted_proxy_says_is_heeded(headers: list[tuple[str, str]], expected: Any) -> None:
    assert seen(*headers) == expected
    assert seen(*headers, peer="203.0.113.1") == INSIDE, "nobody else is"


def test_the_prefix_may_be_set_and_told() -> None:
    assert seen(prefix="/set") == ("http", "inside:3000", "/set", "/set/docs")
    assert seen(("x-forwarded-prefix", "/told"), prefix="/set")[2] == "/told"
