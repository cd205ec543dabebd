"""Headers that keep browsers from doing more with an answer than it is meant for.

Predictions do without them: their answers are JSON or packed numbers, which no browser takes for a page.
"""

import base64
import re
from hashlib import sha256

from fastapi.responses import HTMLResponse

_POLICY = b"content-security-policy"
_SCRIPT = re.compile(rb"<script>(.*?)</script>", re.DOTALL)
_ANY_PAGE = b"base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
_OF_PAGES = (
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (_POLICY, _ANY_PAGE),
)


def protect(headers: list[tuple[bytes, bytes]]) -> None:
    """Add what an answer lacks: no guessing of its type and, for a page, no frames and no referrers."""
    present = {name.lower(): value for name, value in headers}
    wanted = [(b"x-content-type-options", b"nosniff")]
    if present.get(b"content-type", b"").startswith(b"text/html"):
        wanted += _OF_PAGES
    headers += [(name, value) for name, value in wanted if name not in present]


def protect_page(page: HTMLResponse) -> HTMLResponse:
    """Let a page run its own scripts and this server's files, and nothing else."""
    hashes = (base64.b64encode(sha256(script).digest()).decode() for script in _SCRIPT.findall(bytes(page.body)))
    scripts = " ".join(("'self'", *(f"'sha256-{value}'" for value in hashes)))
    page.headers[_POLICY.decode()] = (
        f"default-src 'self'; script-src {scripts}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        + _ANY_PAGE.decode()
    )
    return page


def protect_strictly(page: HTMLResponse) -> HTMLResponse:
    """Let a page run this server's files alone: no script and no style of its own, not even one that it was given."""
    page.headers[_POLICY.decode()] = "default-src 'self'; img-src 'self' data:; " + _ANY_PAGE.decode()
    return page
