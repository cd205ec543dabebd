"""Addresses of servers as people type them: a name, with a port or without, or all of it."""

import re

DEFAULT_PORT = 3000
_WITH_PORT = re.compile(r"(\[.+\]|[^\[\]:]+):\d+")


def server_url(host: str, port: int = DEFAULT_PORT) -> str:
    """`http://name:port` of a name, of `name:port`, or of an address with a scheme; never with a slash at its end.

    Args:
        port: where the host names none; an address with a scheme has its scheme's own.
    """
    bare = host.strip().rstrip("/")
    if "://" in bare:
        return bare
    if _WITH_PORT.fullmatch(bare):
        return f"http://{bare}"
    shown = f"[{bare}]" if bare.count(":") > 1 and not bare.startswith("[") else bare
    return f"http://{shown}:{port}"
