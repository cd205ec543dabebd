"""The framing of requests: what is wrong with a head before anybody looks at what it asks for."""

import re
from functools import lru_cache

from shokado.dialects.problem import Problem

MAX_HOST_BYTES = 512
"""A name has at most 253 characters, of which each may be written as three."""
_HOST = re.compile(
    rb"(?:(?:[\w.~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*|\[[0-9A-Fa-f:.]+(?:%25[\w.~%-]+)?\]|\[v[0-9A-Fa-f]+\.[\w.~!$&'()*+,;=:-]+\])"
    rb"(?::[0-9]*)?"
).fullmatch
"""A name or an address, and a port. Source: RFC 3986, section 3.2.2, and RFC 6874 for zones."""


def framing_problem(headers: list[tuple[bytes, bytes]], version: str) -> Problem | None:
    """What a proxy and this server could read in different ways. Source: RFC 9112, sections 3.2 and 6.1."""
    hosts = codings = 0
    for name, value in headers:
        if name == b"host":
            hosts += 1
            if not _is_host(value):
                host = value[:100].decode("latin-1")
                return Problem("bad_header", f"{host!r} is no host, with or without a port")
        elif name == b"transfer-encoding":
            codings += 1
            if value.strip().lower() != b"chunked" or codings > 1 or version != "1.1":
                return Problem("bad_header", "transfer-encoding is understood in HTTP/1.1, as chunked and once")
    if hosts > 1 or (not hosts and version != "1.0"):
        return Problem("bad_header", f"a request has one host header, and this one has {hosts}")
    return None


def headers_too_large(limit: int) -> Problem:
    """The refusal (431) of headers, chunk extensions or a trailer of more than `limit` bytes."""
    return Problem("headers_too_large", f"the headers are longer than {limit} bytes", {"limit": limit})


@lru_cache(maxsize=16)  # Clients of one server say the same few over and over.
def _is_host(value: bytes) -> bool:
    return len(value) <= MAX_HOST_BYTES and _HOST(value.strip()) is not None
