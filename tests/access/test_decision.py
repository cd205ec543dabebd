"""The decision: every kind of request, with keys and without."""

from ipaddress import ip_network

import pytest

from shokado.access.decision import Asked, Refused, admit, credential_of, identify, read_asked, refuse_other_sites
from shokado.access.keys import Key, KeyRing, Role, digest_of

RING = KeyRing(
    (
        Key("ci", Role.PREDICT, digest_of(b"ci-secret").hex()),
        Key("boss", Role.ADMIN, digest_of(b"boss-secret").hex()),
    )
)
LOCAL = Asked(peer="127.0.0.1", host="localhost:3000")


def refusal(credential: bytes | None, needed: Role) -> Refused:
    with pytest.raises(Refused) as refused:
        identify(credential, needed, RING)
    return refused.value


def test_keys_get_what_their_role_gets() -> None:
    ci, boss = digest_of(b"ci-secret"), digest_of(b"boss-secret")
    assert identify(ci, Role.PREDICT, RING) == "ci"
    assert identify(boss, Role.PREDICT, RING) == identify(boss, Role.ADMIN, RING) == "boss"
    forbidden = refusal(ci, Role.ADMIN)
    assert (forbidden.code, forbidden.key) == ("forbidden", "ci")
    assert "role admin" in str(forbidden)
    for credential, code in ((None, "missing_key"), (digest_of(b"other"), "unknown_key")):
        assert refusal(credential, Role.PREDICT).code == code


@pytest.mark.parametrize(
    ("headers", "secret"),
    [
        ([(b"x-api-key", b"s")], b"s"),
        ([(b"authorization", b"Bearer s")], b"s"),
        ([(b"authorization", b"bearer  s ")], b"s"),
        ([(b"authorization", b"Bearer other"), (b"x-api-key", b" s ")], b"s"),
        ([(b"x-api-key", b"\xff\x00")], b"\xff\x00"),
        ([(b"authorization", b"Basic s")], None),
        ([(b"authorization", b"Bearer ")], None),
        ([(b"authorization", b"Bearer")], None),
        ([(b"x-api-key", b"")], None),
        ([], None),
    ],
)
def test_a_key_is_read_from_either_header(headers: list[tuple[bytes, bytes]], secret: bytes | None) -> None:
    expected = digest_of(secret) if secret is not None else None
    assert read_asked(headers, "").credential == expected
    assert credential_of("", "") is None


def test_with_keys_it_does_not_matter_where_one_asks_from() -> None:
    asked = Asked(digest_of(b"boss-secret"), "203.0.113.1", "the header via", "anything.example")
    assert admit(asked, Role.ADMIN, RING) == "boss"
    with pytest.raises(Refused, match="show a key"):
        admit(LOCAL, Role.ADMIN, RING)


def test_without_keys_predictions_are_open_and_changes_local() -> None:
    proxies = [ip_network("127.0.0.9/32")]
    assert admit(Asked(peer="203.0.113.1", proxy="the header via", host="x"), Role.PREDICT, None) == ""
    for asked in (
        LOCAL,
        Asked(peer="::1", host="[::1]:3000"),
        Asked(peer="::ffff:127.0.0.1", host="LOCALHOST"),
        Asked(peer="127.8.9.1", host="127.0.0.1"),
        Asked(peer="127.0.0.1", host="127.0.0.1:3000", port=3000),
        Asked(peer="127.0.0.1", host="localhost", port=80),
    ):
        assert admit(asked, Role.ADMIN, None, proxies) == ""
    for asked in (
        Asked(peer="203.0.113.1", host="localhost"),
        Asked(peer="", host="localhost"),
        Asked(peer="127.0.0.1", host="localhost", proxy="the header via"),
        Asked(peer="127.0.0.1", host="localhost:80", port=3000),
        Asked(peer="127.0.0.1", host="localhost", port=3000),
        Asked(peer="127.0.0.9", host="localhost"),
        Asked(peer="127.0.0.1", host="evil.example"),
        Asked(peer="127.0.0.1", host="localhost.evil.example"),
        Asked(peer="127.0.0.1", host=""),
    ):
        with pytest.raises(Refused) as refused:
            admit(asked, Role.ADMIN, None, proxies)
        assert refused.value.code == "keys_needed"


@pytest.mark.parametrize(
    ("header", "http_version", "sign"),
    [
        (("host", "localhost"), "1.1", ""),
        (("connection", "keep-alive"), "1.1", ""),
        (("x-request-id", "1"), "1.1", ""),
        (("host", "localhost"), "1.0", "HTTP/1.0"),
        (("connection", "TE, Close"), "1.1", "connection: close"),
        (("connection", "upgrade"), "1.1", "connection: upgrade"),
        (("via", "1.1 squid"), "1.1", "the header via"),
        (("x-varnish", "32770"), "1.1", "the header x-varnish"),
        (("forwarded", "for=127.0.0.1"), "1.1", "the header forwarded"),
        (("x-forwarded-proto", "https"), "1.1", "the header x-forwarded-proto"),
        (("x-real-ip", "127.0.0.1"), "1.1", "the header x-real-ip"),
        (("cf-connecting-ip", "127.0.0.1"), "1.1", "the header cf-connecting-ip"),
    ],
)
def test_signs_of_a_proxy(header: tuple[str, str], http_version: str, sign: str) -> None:
    headers = [(header[0].encode(), header[1].encode())]
    assert read_asked(headers, "127.0.0.1", 3000, http_version).proxy == sign


def test_a_client_that_offers_another_protocol_is_no_proxy() -> None:
    """As curl does with --http2."""
    headers = [(b"connection", b"Upgrade, HTTP2-Settings"), (b"upgrade", b"h2c")]
    assert not read_asked(headers, "127.0.0.1", 3000).proxy


@pytest.mark.parametrize(
    ("asked", "allowed"),
    [
        (Asked(host="here:1"), True),
        (Asked(host="here:1", origin="http://here:1"), True),
        (Asked(host="here:1", origin="http://HERE:1"), True),
        (Asked(host="here:1", origin="http://here:2"), False),
        (Asked(host="here", origin="http://[broken"), False),
        (Asked(host="here", origin="null"), False),
        (Asked(host="here", fetch_site="none"), True),
        (Asked(host="here", fetch_site="same-origin", origin="http://behind-a-proxy"), True),
        (Asked(host="here", fetch_site="same-site", origin="http://here"), False),
        (Asked(host="here", fetch_site="cross-site"), False),
        (Asked(host="here", fetch_site="cross-site", origin="https://friend"), True),
    ],
)
def test_changes_of_other_sites_pages_are_refused(asked: Asked, allowed: bool) -> None:
    if allowed:
        refuse_other_sites(asked, ("https://friend",))
        return
    with pytest.raises(Refused) as refused:
        refuse_other_sites(asked, ("https://friend",))
    assert refused.value.code == "cross_site"


def test_any_site_by_cors_is_none_by_name() -> None:
    """`*` lets pages read; a change still needs a site that is named."""
    with pytest.raises(Refused):
        refuse_other_sites(Asked(fetch_site="cross-site", origin="https://friend"), ("*",))
