"""Addresses of Sentinels: every part is read, nothing is guessed, and no refusal repeats a password."""

import pytest

from configuration.sentinel_address import SentinelAddress


def test_every_part_is_read() -> None:
    found = SentinelAddress.read("rediss+sentinel://ann:p%40ss%2F@a:26379,[::1]:5000,b/main/3?sentinel_auth=yes")
    assert found == SentinelAddress(
        sentinels=(("a", 26379), ("::1", 5000), ("b", 26379)),
        service="main",
        database=3,
        username="ann",
        password="p@ss/",
        tls=True,
        sentinel_auth=True,
    )
    assert found.name == "rediss+sentinel://a:26379,[::1]:5000,b:26379/main/3"
    assert "p@ss" not in repr(found)


def test_most_parts_may_be_left_out() -> None:
    found = SentinelAddress.read("redis+sentinel://:secret@a/main")
    assert found == SentinelAddress((("a", 26379),), "main", 0, None, "secret", tls=False, sentinel_auth=False)


@pytest.mark.parametrize("url", ["redis://a:6379/0", "rediss://a", "sqlite:///var/x.db"])
def test_other_addresses_are_none(url: str) -> None:
    assert SentinelAddress.read(url) is None


@pytest.mark.parametrize(
    "rest", ["a:26379", "a:26379/", "a/main/zero", "a,/main", "a:0/main", "a:70000/main", "a/main?auth=yes", "/main/0"]
)
def test_what_is_none_is_refused(rest: str) -> None:
    with pytest.raises(ValueError) as refused:
        SentinelAddress.read(f"redis+sentinel://ann:secret@{rest}")
    assert "secret" not in str(refused.value)
    assert "redis+sentinel://host:26379" in str(refused.value) or "port" in str(refused.value)
