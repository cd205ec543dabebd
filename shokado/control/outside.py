"""Outside: the address that a client asks at, which proxies in front may have changed. In: ASGI scope. Out: the same.

A proxy may speak TLS for the server, give it another `Host`, and serve it under a prefix, which it takes off the path.
It says so in `X-Forwarded-Proto`, `-Host` and `-Prefix`, and is believed where it is trusted. The prefix may also be
set, and is then taken off here where the proxy left it on.
"""

import re
from collections.abc import Sequence

from starlette.types import Scope

from shokado.access.address import Network, address_in, parsed

_SCHEME = re.compile("https?", re.IGNORECASE).fullmatch
_HOST = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?").fullmatch
_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)+").fullmatch


def seen_from_outside(scope: Scope, prefix: str, trusted: Sequence[Network]) -> Scope:
    """The scope with the client's scheme, `Host` and, as `root_path` and before the path, the prefix.

    Of what several proxies have said, the last one counts, as only that one is known.
    """
    peer = parsed(scope["client"][0]) if trusted and scope.get("client") else None
    told = {}
    if peer is not None and address_in(peer, trusted):
        for name, value in scope["headers"]:
            if name.startswith(b"x-forwarded-"):
                told[name.removeprefix(b"x-forwarded-")] = value.decode("latin-1").rpartition(",")[2].strip()
    seen = dict(scope)
    if _SCHEME(scheme := told.get(b"proto", "")):
        seen["scheme"] = scheme.lower()
    if _HOST(host := told.get(b"host", "")):
        others = [header for header in scope["headers"] if header[0] != b"host"]
        seen["headers"] = [(b"host", host.encode()), *others]
    if _PREFIX(given := told.get(b"prefix", "").rstrip("/")):
        prefix = given
    seen["root_path"] = prefix
    seen["path"] = prefix + scope["path"]
    return seen


def route_of(scope: Scope) -> str:
    """The path as routes know it."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))
