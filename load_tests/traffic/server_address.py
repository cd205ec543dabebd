"""Addresses of servers as people type them: a name, with a port or without, or all of it."""

import re
from urllib.parse import urlsplit

DEFAULT_PORT = 3000
_WITH_PORT = re.compile(r"(\[.+\]|[^\[\]:]+):\d+")


class WrongAddress(ValueError):
    """The message says what is wrong with it."""


def server_url(host: str, port: int = DEFAULT_PORT) -> str:
    """`http://name:port` of a name, of `name:port`, or of an address with a scheme; never with a slash at its end.

    Args:
        port: where the host names none; an address with a scheme has its scheme's own.

    Raises `WrongAddress`: the kernel would be asked for another port, 14464 for 80000.
    """
    bare = host.strip().rstrip("/")
    url = bare
    if "://" not in bare:
        shown = f"[{bare}]" if bare.count(":") > 1 and not bare.startswith("[") else bare
        url = f"http://{bare}" if _WITH_PORT.fullmatch(bare) else f"http://{shown}:{port}"
    try:
        unfit = urlsplit(url).port == 0
    except ValueError:
        unfit = True
    if unfit:
        raise WrongAddress(f"{url}: a port is a number from 1 to 65535")
    return url
