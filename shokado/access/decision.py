"""The decision: who asks, and may they? Pure, and the same for every transport.

(what was shown, where it came from, the role that is needed, the keys that hold) --> name of the key, or a refusal
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from shokado.access.address import Network, address_in, names_loopback, parsed, port_of
from shokado.access.forwarding import Headers, sign_of_proxy
from shokado.access.keys import KeyRing, Role, digest_of

MAKE_A_KEY = "shokado keys create --name me --role admin"


class Refused(Exception):
    """Somebody may not do what they ask for."""

    def __init__(self, code: str, message: str, *, key: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.key = key
        """The name of the key that was shown, if it is known."""
        self.retry_after_s: float | None = None
        self.headers = {"cache-control": "no-store"}


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request says of who asks. Of gRPC only `credential` and `peer` are known; it has no browsers."""

    credential: bytes | None = None
    """Digest of the key that was shown."""
    peer: str = ""
    """Address at the other end of the connection; empty where it has none."""
    proxy: str = ""
    """What tells that a proxy may pass it on for somebody else; empty where nothing does."""
    host: str = "localhost"
    port: int | None = None
    """The port that this server listens at; None where it is not known."""
    origin: str | None = None
    fetch_site: str | None = None


def read_asked(headers: Headers, peer: str, port: int | None = None, http_version: str = "1.1") -> Asked:
    """What the headers say, whose names are in lower case."""
    found = {name: value.decode("latin-1").strip() for name, value in headers if name in _HEEDED}
    return Asked(
        credential_of(found.get(b"x-api-key", ""), found.get(b"authorization", "")),
        peer,
        sign_of_proxy(headers, http_version),
        found.get(b"host", ""),
        port,
        found.get(b"origin"),
        found.get(b"sec-fetch-site"),
    )


def credential_of(api_key: str, authorization: str) -> bytes | None:
    """Digest of the key in `X-API-Key`, else in `Authorization: Bearer`; None where neither shows one."""
    if api_key:
        return digest_of(api_key.encode("latin-1"))
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return digest_of(token.strip().encode("latin-1"))
    return None


_HEEDED = frozenset((b"x-api-key", b"authorization", b"host", b"origin", b"sec-fetch-site"))


def identify(credential: bytes | None, needed: Role, ring: KeyRing) -> str:
    """The name of the key that was shown, if it is good for this role.

    Raises `Refused`: `missing_key`, `unknown_key`, `forbidden`.
    """
    if credential is None:
        raise Refused("missing_key", "show a key: X-API-Key: <key>, or Authorization: Bearer <key>")
    key = ring.find(credential)
    if key is None:
        raise Refused("unknown_key", "this key is not known here, or was revoked")
    if not key.role.includes(needed):
        message = f"this needs a key of the role {needed}; key {key.name} has {key.role}"
        raise Refused("forbidden", message, key=key.name)
    return key.name


def admit(asked: Asked, needed: Role, ring: KeyRing | None, proxies: Sequence[Network] = ()) -> str:
    """The name of the key that was shown, if it is good for this role; `ring` is None where there are no keys.

    Without keys everybody may predict, nobody has a name (it is empty), and changes are for the same machine, where
    `proxies` are those that are known. Raises `Refused`, as `identify` does, and `keys_needed`.
    """
    if ring is not None:
        return identify(asked.credential, needed, ring)
    if needed is Role.ADMIN and (why := _why_not_local(asked, proxies)):
        message = (
            "without keys, changes and the request log are for clients on the same machine only, who ask at a loopback "
            f"address and this server's own port, with no proxy between; {why}. With keys from anywhere: {MAKE_A_KEY}, "
            "and set access.keys_file"
        )
        raise Refused("keys_needed", message)
    return ""


def _why_not_local(asked: Asked, proxies: Sequence[Network]) -> str:
    """What tells that somebody elsewhere may be asking; empty where nothing does."""
    peer = parsed(asked.peer)
    if peer is None or not peer.is_loopback:
        return "this comes from elsewhere"
    if address_in(peer, proxies):
        return "this comes from one of access.trusted_proxies"
    if asked.proxy:
        return f"{asked.proxy} may be a proxy's"
    if not names_loopback(asked.host):
        return f"this asks for the host {asked.host[:100]!r}"
    if asked.port is not None and port_of(asked.host) != asked.port:
        return f"this asks for the host {asked.host[:100]!r}, and the port is {asked.port}"
    return ""


def refuse_other_sites(asked: Asked, allowed_origins: Collection[str] = ()) -> None:
    """Refuse a change that a browser makes on behalf of another site, unless CORS allows that one.

    By Fetch Metadata where the browser sends it, else by Origin and Host. Raises `Refused` (`cross_site`).
    """
    if asked.origin is not None and asked.origin in allowed_origins:
        return
    if asked.fetch_site is not None:
        other = asked.fetch_site not in ("same-origin", "none")
    else:
        other = asked.origin is not None and _host_of(asked.origin) != asked.host.lower()
    if other:
        raise Refused("cross_site", "changes are not taken from pages of other sites; see access.cors")


def _host_of(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
