"""Forwarding: who asks, as proxies tell it and as clients forge it."""

from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configuration.settings import AccessSettings
from shokado.access.forwarding import client_of
from shokado.access.gate import Gate

TRUSTED = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
PROXY = "10.0.0.1"


def told(*lines: tuple[str, str], peer: str = PROXY) -> tuple[str, bool]:
    """What rates count the client by, and whether all was understood."""
    headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in lines]
    client = client_of(peer, headers, TRUSTED)
    return client.counted_as, not client.unread


@pytest.mark.parametrize(
    ("peer", "lines", "client"),
    [
        ("203.0.113.5", [], "203.0.113.5"),
        ("203.0.113.5", ["198.51.100.1"], "203.0.113.5"),
        (PROXY, ["198.51.100.1"], "198.51.100.1"),
        (PROXY, ["1.2.3.4, 198.51.100.1"], "198.51.100.1"),
        (PROXY, ["198.51.100.1, 10.2.2.2 ,10.0.0.9"], "198.51.100.1"),
        (PROXY, ["10.0.0.7"], "10.0.0.7"),
        ("fd00::1", ["2001:db8:1:2:3::4"], "2001:db8:1:2::/64"),
        ("", ["198.51.100.1"], "unknown"),
        # A proxy may add a line of its own to those that the client sent.
        (PROXY, ["1.2.3.4", "198.51.100.1"], "198.51.100.1"),
        (PROXY, ["1.2.3.4", "198.51.100.1", "10.0.0.9"], "198.51.100.1"),
        (PROXY, ["1.2.3.4, 5.6.7.8", "198.51.100.1"], "198.51.100.1"),
        (PROXY, ["", "198.51.100.1"], "198.51.100.1"),
        (PROXY, ["198.51.100.1, ,", " "], "198.51.100.1"),
        (PROXY, ["198.51.100.1:4711"], "198.51.100.1"),
        (PROXY, ["[2001:db8:1:2:3::4]:4711, 10.0.0.3:80"], "2001:db8:1:2::/64"),
    ],
)
def test_a_client_is_the_last_that_no_trusted_proxy_is(peer: str, lines: list[str], client: str) -> None:
    assert told(*(("X-Forwarded-For", line) for line in lines), peer=peer) == (client, True)


@pytest.mark.parametrize(
    ("lines", "client"),
    [
        (["for=198.51.100.1"], "198.51.100.1"),
        (["For=1.2.3.4;proto=https;by=10.0.0.1, FOR=198.51.100.1 ; proto=http"], "198.51.100.1"),
        (["for=1.2.3.4", "for=198.51.100.1"], "198.51.100.1"),
        (['for="198.51.100.1:4711"'], "198.51.100.1"),
        (['for="[2001:db8:1:2:3::4]:4711";host="a,b;c", for=10.0.0.2'], "2001:db8:1:2::/64"),
        (["for=[2001:db8:1:2:3::4]:4711"], "2001:db8:1:2::/64"),
        ([r'for="198.51.\100.1"'], "198.51.100.1"),
        (['secret="\\"for=6.6.6.6", for=198.51.100.1'], "198.51.100.1"),
        (["for=198.51.100.1, , "], "198.51.100.1"),
    ],
)
def test_forwarded_says_the_same(lines: list[str], client: str) -> None:
    assert told(*(("Forwarded", line) for line in lines)) == (client, True)


@pytest.mark.parametrize(
    ("lines", "client"),
    [
        ([("X-Forwarded-For", "nonsense")], PROXY),
        ([("X-Forwarded-For", "198.51.100.1, nonsense")], PROXY),
        ([("X-Forwarded-For", "nonsense, 10.0.0.2")], "10.0.0.2"),
        ([("Forwarded", "for=unknown")], PROXY),
        ([("Forwarded", "for=_hidden, for=10.0.0.2")], "10.0.0.2"),
        ([("Forwarded", "for=198.51.100.1, proto=https")], PROXY),
        ([("Forwarded", "proto=https")], PROXY),
        # A quote that the client leaves open takes in what the proxy adds.
        ([("Forwarded", 'for="1.2.3.4'), ("Forwarded", "for=198.51.100.1")], PROXY),
        ([("Forwarded", "1.2.3.4, for=198.51.100.1")], PROXY),
        ([("Forwarded", "for = 198.51.100.1")], PROXY),
        # The client forges the header that the proxy does not write.
        ([("Forwarded", "for=1.2.3.4"), ("X-Forwarded-For", "198.51.100.1")], PROXY),
        ([("X-Forwarded-For", "1.2.3.4"), ("Forwarded", "for=198.51.100.1")], PROXY),
    ],
)
def test_what_cannot_be_told_is_the_proxy_s(lines: list[tuple[str, str]], client: str) -> None:
    assert told(*lines) == (client, False)


def test_a_proxy_may_write_both() -> None:
    assert told(("X-Forwarded-For", "198.51.100.1"), ("Forwarded", "for=198.51.100.1")) == ("198.51.100.1", True)


@given(st.text(max_size=40), st.text(alphabet='for=;,". \\[]:1_', max_size=40), st.booleans())
def test_nothing_that_a_client_sends_takes_the_place_of_what_the_proxy_adds(
    forged: str, forged_element: str, own_line: bool
) -> None:
    """It may make itself unreadable, and is counted as the proxy then, but never as somebody else."""
    true, separate = "198.51.100.1", "\n" if own_line else ","
    for header, sent, added in (("x-forwarded-for", forged, true), ("forwarded", forged_element, f"for={true}")):
        lines = f"{sent}{separate}{added}".split("\n") if own_line else [f"{sent},{added}"]
        headers = [(header.encode(), line.encode("latin-1", "replace")) for line in lines]
        client = client_of(PROXY, headers, TRUSTED)
        assert client.counted_as == true or (client.counted_as == PROXY and client.unread)


def test_what_cannot_be_read_is_told_once(caplog: Any) -> None:
    access = {"rates": {"per_address": "1/hour"}, "trusted_proxies": ["10.0.0.0/8"]}
    gate = Gate(AccessSettings.model_validate(access), "paper", Path())
    for _ in range(3):
        assert gate.address_of(PROXY, [(b"x-forwarded-for", b"no\nsense")]) == PROXY
    assert caplog.text.count("cannot be read") == 1
    assert r"no\nsense" in caplog.text
