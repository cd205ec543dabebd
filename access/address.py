"""Addresses: where a client is, through proxies that are trusted, and whether that is this machine."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Network = IPv4Network | IPv6Network
_LOOPBACK_NAMES = ("localhost", "localhost.")


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text.strip().removeprefix("[").removesuffix("]"))
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def is_loopback(peer: str) -> bool:
    """Whether a peer's address is this machine's own. A socket without addresses is not."""
    address = _parsed(peer)
    return address is not None and address.is_loopback


def names_loopback(host: str) -> bool:
    """Whether a `Host` header names this machine; a name that merely leads to it does not (DNS rebinding)."""
    name, separator, port = host.rpartition(":")
    if not separator or not port.isdecimal():
        name = host
    return name.lower() in _LOOPBACK_NAMES or is_loopback(name)


def client_of(peer: str, forwarded_for: str, trusted: Sequence[Network]) -> str:
    """What rates count a client by: its IPv4 address, or the /64 network of its IPv6 address.

    `forwarded_for` (X-Forwarded-For) is heeded only as far as trusted proxies have written it: the right-most address
    that is none of theirs is the client's.
    """
    client = _parsed(peer)
    if client is None:
        return "unknown"
    for hop in reversed(forwarded_for.split(",")) if forwarded_for else ():
        if not any(client in network for network in trusted):
            break
        before = _parsed(hop)
        if before is None:
            break
        client = before
    if isinstance(client, IPv6Address):
        return str(ip_network((client, 64), strict=False))
    return str(client)
