"""Addresses: this machine, and clients behind proxies."""

from ipaddress import ip_network

import pytest

from access.address import client_of, is_loopback, names_loopback

TRUSTED = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "client"),
    [
        ("203.0.113.5", "", "203.0.113.5"),
        ("203.0.113.5", "198.51.100.1", "203.0.113.5"),
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "1.2.3.4, 198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "198.51.100.1, 10.2.2.2 ,10.0.0.9", "198.51.100.1"),
        ("10.0.0.1", "10.0.0.7", "10.0.0.7"),
        ("10.0.0.1", "nonsense", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1, nonsense", "10.0.0.1"),
        ("fd00::1", "2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.5", "", "203.0.113.5"),
        ("2001:db8:1:2:ffff::", "", "2001:db8:1:2::/64"),
        ("", "198.51.100.1", "unknown"),
    ],
)
def test_a_client_is_the_last_that_no_trusted_proxy_is(peer: str, forwarded_for: str, client: str) -> None:
    assert client_of(peer, forwarded_for, TRUSTED) == client


@pytest.mark.parametrize("host", ["localhost", "LocalHost:3000", "127.0.0.1:1", "127.9.9.9", "[::1]", "[::1]:3000"])
def test_names_of_this_machine(host: str) -> None:
    assert names_loopback(host)


@pytest.mark.parametrize("host", ["", "a", "localhost.a", "127.0.0.1.a:80", "0.0.0.0", "[::2]:1", "10.0.0.1", ":80"])
def test_other_names(host: str) -> None:
    assert not names_loopback(host)
    assert not is_loopback(host)
