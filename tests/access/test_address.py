"""Addresses: their spellings, what they count as, and this machine's."""

from ipaddress import ip_address

import pytest

from shokado.access.address import counted_as, names_loopback, parsed, port_of


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("203.0.113.5", "203.0.113.5"),
        (" 203.0.113.5 ", "203.0.113.5"),
        ("203.0.113.5:4711", "203.0.113.5"),
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:4711", "2001:db8::1"),
        ("::ffff:203.0.113.5", "203.0.113.5"),
        ("[::ffff:203.0.113.5]:1", "203.0.113.5"),
    ],
)
def test_spellings(text: str, address: str) -> None:
    assert str(parsed(text)) == address


@pytest.mark.parametrize(
    "text", ["", "unknown", "_hidden", "1.2.3", "1.2.3.4:", "1.2.3.4:x", "[::1", "::1]", "[::1]x", "[::1]:x", "a\nb"]
)
def test_what_is_no_address(text: str) -> None:
    assert parsed(text) is None


@pytest.mark.parametrize(
    ("address", "counted"),
    [("203.0.113.5", "203.0.113.5"), ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"), ("fe80::1%eth0", "fe80::/64")],
)
def test_whoever_has_a_network_counts_once(address: str, counted: str) -> None:
    assert counted_as(ip_address(address)) == counted


@pytest.mark.parametrize("host", ["localhost", "LocalHost:3000", "127.0.0.1:1", "127.9.9.9", "[::1]", "[::1]:3000"])
def test_names_of_this_machine(host: str) -> None:
    assert names_loopback(host)


@pytest.mark.parametrize("host", ["", "a", "localhost.a", "127.0.0.1.a:80", "0.0.0.0", "[::2]:1", "10.0.0.1", ":80"])
def test_other_names(host: str) -> None:
    assert not names_loopback(host)


@pytest.mark.parametrize(
    ("host", "port"),
    [("localhost:3000", 3000), ("[::1]:3000", 3000), ("localhost", 80), ("[::1]", 80), ("a:" + "9" * 5000, 80)],
)
def test_ports(host: str, port: int) -> None:
    assert port_of(host) == port
