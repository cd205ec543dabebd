"""The decision: who asks, and may they? Pure, and the same for every door.

(what was shown, where it came from, the role that is needed, the keys that hold) --> name of the key, or a refusal
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from access.address import is_loopback, names_loopback
from access.keys import KeyRing, Role, digest_of

MAKE_A_KEY = "shokado keys create --name me --role admin"


class Refused(Exception):
    """Somebody may not do what they ask for. `status` is HTTP's; gRPC maps 401, 403 and 429 to its own."""

    def __init__(self, status: int, code: str, message: str, *, key: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.key = key
        """The name of the key that was shown, if it is known."""
        self.retry_after_s: float | None = None
        self.headers = {"cache-control": "no-store"}
        if status == 401:
            self.headers["www-authenticate"] = 'Bearer realm="shokado"'


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request says of who asks. Of gRPC only `credential` and `peer` are known; it has no browsers."""

    credential: bytes | None = None
    """Digest of the key that was shown."""
    peer: str = ""
    """Address at the other end of the connection; empty where it has none."""
    forwarded: bool = False
    """Whether a proxy says that it passes on for somebody else."""
    host: str = "localhost"
    origin: str | None = None
    fetch_site: str | None = None


def read_asked(headers: Iterable[tuple[bytes, bytes]], peer: str) -> Asked:
    """What the headers say, whose names are in lower case."""
    found = {name: value.decode("latin-1").strip() for name, value in headers if name in _HEEDED}
    return Asked(
        credential_of(found.get(b"x-api-key", ""), found.get(b"authorization", "")),
        peer,
        any(name in found for name in _FORWARDING),
        found.get(b"host", ""),
        found.get(b"origin"),
        found.get(b"sec-fetch-site"),
    )


def credential_of(api_key: str, authorization: str) -> bytes | None:
    """Digest of the key in `X-API-Key`, else in `Authorization: Bearer`; none where neither shows one."""
    if api_key:
        return digest_of(api_key.encode("latin-1"))
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return digest_of(token.strip().encode("latin-1"))
    return None


_FORWARDING = (b"x-forwarded-for", b"forwarded", b"x-real-ip")
_HEEDED = frozenset((b"x-api-key", b"authorization", b"host", b"origin", b"sec-fetch-site", *_FORWARDING))


def identify(credential: bytes | None, needed: Role, ring: KeyRing) -> str:
    """The name of the key that was shown, if it is good for this role.

    Raises `Refused`: 401 `missing_key`, `unknown_key`; 403 `forbidden`.
    """
    if credential is None:
        raise Refused(401, "missing_key", "show a key: X-API-Key: <key>, or Authorization: Bearer <key>")
    key = ring.find(credential)
    if key is None:
        raise Refused(401, "unknown_key", "this key is not known here, or was revoked")
    if not key.role.includes(needed):
        message = f"this needs a key of the role {needed}; key {key.name} has {key.role}"
        raise Refused(403, "forbidden", message, key=key.name)
    return key.name


def admit(asked: Asked, needed: Role, ring: KeyRing | None) -> str:
    """The name of the key that was shown, if it is good for this role; `ring` is none where there are no keys.

    Without keys everybody may predict, nobody has a name (it is empty), and changes are for the same machine. Raises
    `Refused`, as `identify` does, and 403 `keys_needed`.
    """
    if ring is not None:
        return identify(asked.credential, needed, ring)
    if needed is Role.ADMIN:
        _check_local(asked)
    return ""


def _check_local(asked: Asked) -> None:
    """Without keys, changes are for clients on the same machine."""
    if asked.forwarded or not is_loopback(asked.peer) or not names_loopback(asked.host):
        message = (
            "without keys, changes are taken from the same machine only, at a loopback address; "
            f"with keys from anywhere: {MAKE_A_KEY}, and set access.keys_file"
        )
        raise Refused(403, "keys_needed", message)


def refuse_other_sites(asked: Asked, allowed_origins: Collection[str] = ()) -> None:
    """Refuse a change that a browser makes on behalf of another site, unless CORS allows that one.

    By Fetch Metadata where the browser sends it, else by Origin and Host. Raises `Refused` (403 `cross_site`).
    """
    if asked.origin is not None and asked.origin in allowed_origins:
        return
    if asked.fetch_site is not None:
        other = asked.fetch_site not in ("same-origin", "none")
    else:
        other = asked.origin is not None and _host_of(asked.origin) != asked.host.lower()
    if other:
        raise Refused(403, "cross_site", "changes are not taken from pages of other sites; see access.cors")


def _host_of(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
