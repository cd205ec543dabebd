"""Compressed bodies of prediction requests. In: the body and its coding. Out: what was compressed, within limits."""

import zlib

from shokado.dialects.problem import Problem, body_too_large, malformed

WBITS = {b"gzip": 31, b"x-gzip": 31, b"deflate": 15}
"""What zlib calls the codings that are understood; HTTP's deflate is zlib's format (RFC 9110, 8.4.1)."""
MAX_RATIO = 100
"""Rows as JSON become 5 to 20 times smaller; zlib can make nothing more than 1,032 times so."""
FREE_BYTES = 2**20
"""Up to which a body may be compressed as well as can be: many equal rows are."""

MAX_MEMBERS = 16
"""Members that a gzip body may have, as some writers flush: for each, zlib copies all that comes after it."""


def inflate(body: bytes, coding: bytes, max_bytes: int) -> bytes:
    """Undo one of the codings of `WBITS`. No more is inflated than is allowed. Raises `Problem` (400, 413)."""
    allowed = min(max_bytes, max(FREE_BYTES, MAX_RATIO * len(body)))
    parts: list[bytes] = []
    try:
        while body or not parts:
            if len(parts) == MAX_MEMBERS:
                raise malformed(f"the body has more than {MAX_MEMBERS} {coding.decode()} streams")
            member = zlib.decompressobj(WBITS[coding])
            parts.append(member.decompress(body, allowed + 1))
            allowed -= len(parts[-1])
            if allowed < 0:
                raise _too_large(max_bytes, sum(map(len, parts)))
            if not member.eof:
                raise malformed(f"the body ends within its {coding.decode()} stream")
            body = member.unused_data
    except zlib.error as error:
        raise malformed(f"the body is not {coding.decode()}: {error}") from None
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _too_large(max_bytes: int, found: int) -> Problem:
    if found > max_bytes:
        return body_too_large(max_bytes)
    message = f"the body becomes more than {MAX_RATIO} times as long as it was sent; send it as it is"
    return Problem("compressed_too_well", message, {"limit": MAX_RATIO})
