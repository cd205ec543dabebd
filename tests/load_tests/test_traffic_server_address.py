"""Addresses as people type them."""

import pytest

from load_tests.traffic.server_address import WrongAddress, server_url


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("localhost", "http://localhost:3001"),
        ("localhost:8080", "http://localhost:8080"),
        ("localhost:8080/", "http://localhost:8080"),
        ("http://models.example.com", "http://models.example.com"),
        ("http://models.example.com/", "http://models.example.com"),
        ("https://models.example.com:8443/shokado//", "https://models.example.com:8443/shokado"),
        ("::1", "http://[::1]:3001"),
        ("[::1]", "http://[::1]:3001"),
        ("[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_every_way_to_write_an_address(host: str, url: str) -> None:
    assert server_url(host, 3001) == url


@pytest.mark.parametrize("host", ["localhost:80000", "http://localhost:0", "http://localhost:x", "[::1]:65536"])
def test_a_port_that_is_none(host: str) -> None:
    with pytest.raises(WrongAddress, match="from 1 to 65535"):
        server_url(host)
    with pytest.raises(WrongAddress):
        server_url("localhost", 80_000)
