"""Addresses: how they are spelled, what rates count them by, and whether one is this machine's."""

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
_LOOPBACK_NAMES = ("localhost", "localhost.")
_SPELLED = re.compile(r"\[(?P<v6>[^\]]*)\](?::\d{1,5})?|(?P<v4>[^:]*):\d{1,5}|(?P<bare>.*)", re.DOTALL).fullmatch


def parsed(text: str) -> Address | None:
    """An address in any of its spellings (`ip`, `ip:port`, `[v6]`, `[v6]:port`); None if it is not one."""
    spelled = _SPELLED(text.strip())
    assert spelled is not None, "the last alternative takes anything"
    try:
        address = ip_address(spelled[spelled.lastgroup or 0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def address_in(address: Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)


def counted_as(address: Address) -> str:
    """An IPv4 address, or the /64 network of an IPv6 address: who has one of its addresses has all."""
    if isinstance(address, IPv6Address):
        return str(ip_network((address.packed, 64), strict=False))
    return str(address)


def names_loopback(host: str) -> bool:
    """Whether a `Host` header names this machine; a name that merely leads to it does not (DNS rebinding)."""
    name, separator, port = host.rpartition(":")
    if not separator or not port.isdecimal():
        name = host
    address = parsed(name)
    return name.lower() in _LOOPBACK_NAMES or (address is not None and address.is_loopback)


def port_of(host: str) -> int:
    """The port of a `Host` header: HTTP's own where it has none."""
    found = re.search(r":([0-9]{1,5})$", host)
    return int(found[1]) if found is not None else 80
