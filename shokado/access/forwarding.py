"""Forwarding: what proxies say of whom they pass a request on for. In: headers. Out: addresses, one a proxy.

Each proxy adds the address that it was asked from at the end of `X-Forwarded-For` or `Forwarded` (RFC 7239), in a line
of its own or not: lines of one name are one list, in their order (RFC 9110, section 5.3).
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from shokado.access.address import Address, Network, address_in, counted_as, parsed

Headers = Sequence[tuple[bytes, bytes]]
"""Names, in lower case, and values; each line that was sent."""
NAMES = frozenset((b"x-forwarded-for", b"forwarded"))
UNKNOWN = "unknown"
"""What rates count a client by whose connection has no address."""

_SIGNS = frozenset(
    (
        b"via", b"forwarded", b"x-real-ip", b"x-client-ip", b"x-cluster-client-ip", b"x-remote-ip", b"x-scheme",
        b"true-client-ip", b"client-ip", b"fastly-client-ip", b"cdn-loop", b"proxy-connection", b"x-proxyuser-ip",
        b"x-varnish", b"surrogate-capability", b"front-end-https", b"x-url-scheme",
    )
)  # fmt: skip
_SIGN_PREFIXES = (
    b"x-forwarded", b"x-original-", b"x-envoy-", b"x-amz", b"x-azure-", b"x-appengine-", b"x-arr-", b"x-nginx-",
    b"x-vercel-", b"x-kong-", b"x-akamai-", b"akamai-", b"x-sucuri-", b"incap-", b"cf-", b"fly-", b"tailscale-",
    b"ngrok-",
)  # fmt: skip

# Values with `:` should be in quotes, and are understood without them too.
_PARAMETER = re.compile(
    r"""[ \t]*([!#$%&'*+.^_`|~0-9A-Za-z-]+)=([]!#$%&'*+.:[^_`|~0-9A-Za-z-]+|"(?:[^"\\]|\\.)*")[ \t]*([;,]|$)"""
)
_GAP = re.compile(r"[ \t,]*")


class ForwardedClient(NamedTuple):
    """A client as it is known behind proxies."""

    address: Address | None
    """The client's address; None where the connection has none."""
    unread: str = ""
    """What a trusted proxy has said that cannot be read; the client is that proxy then."""

    @property
    def counted_as(self) -> str:
        """What rates count it by: its IPv4 address, or the /64 network of its IPv6 address."""
        return UNKNOWN if self.address is None else counted_as(self.address)


def client_of(peer: str, headers: Headers, trusted: Sequence[Network]) -> ForwardedClient:
    """Who asks, as far as trusted proxies tell: the right-most address that is none of theirs.

    A client can send either header, and a proxy that writes the other one passes it on. So where both are sent they
    have to tell the same.
    """
    proxy = parsed(peer)
    if proxy is None or not address_in(proxy, trusted):
        return ForwardedClient(proxy)
    lists = _joined(headers, b"x-forwarded-for"), _joined(headers, b"forwarded")
    told = [_walk(proxy, hops, trusted) for hops in (_addresses(lists[0]), _nodes(lists[1])) if hops]
    if any(client != told[0] for client in told):
        return ForwardedClient(proxy, " and ".join(lists))
    return told[0] if told else ForwardedClient(proxy)


def _joined(headers: Headers, wanted: bytes) -> str:
    return b",".join([value for name, value in headers if name == wanted]).decode("latin-1")


def _addresses(x_forwarded_for: str) -> list[str]:
    return [hop for hop in map(str.strip, x_forwarded_for.split(",")) if hop]


def _walk(proxy: Address, hops: Sequence[str], trusted: Sequence[Network]) -> ForwardedClient:
    client = proxy
    for hop in reversed(hops):
        if not address_in(client, trusted):
            break
        before = parsed(hop)
        if before is None:
            return ForwardedClient(client, hop or "nothing")
        client = before
    return ForwardedClient(client)


def _nodes(forwarded: str) -> list[str]:
    """The `for` of each element, empty where it has none. Of what is not as RFC 7239 says, the whole is unreadable."""
    nodes = []
    position = _end_of_gap(forwarded, 0)
    while position < len(forwarded):
        node, separator = "", ";"
        while separator == ";":
            found = _PARAMETER.match(forwarded, position)
            if found is None:
                return [forwarded]
            name, value, separator = found.groups()
            position = found.end()
            if name.lower() == "for":
                node = re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value
        nodes.append(node)
        position = _end_of_gap(forwarded, position)
    return nodes


def _end_of_gap(forwarded: str, position: int) -> int:
    gap = _GAP.match(forwarded, position)
    return gap.end() if gap is not None else position


def sign_of_proxy(headers: Headers, http_version: str) -> str:
    """What of a request may be a proxy's doing; empty where nothing is.

    A proxy need not say anything: nginx's `proxy_pass` alone adds no header, and makes `Host` what this server is
    called. But it speaks HTTP/1.0, closes the connection after each request, or, set up for WebSocket as manuals say,
    asks for an upgrade without saying to what; hardly a client does so.
    """
    upgrades = any(name == b"upgrade" for name, _ in headers)
    for name, value in headers:
        if name in _SIGNS or name.startswith(_SIGN_PREFIXES):
            return f"the header {name.decode('latin-1')}"
        if name == b"connection" and b"close" in value.lower():
            return "connection: close"
        if name == b"connection" and b"upgrade" in value.lower() and not upgrades:
            return "connection: upgrade"
    return "" if http_version in ("1.1", "2") else f"HTTP/{http_version}"
