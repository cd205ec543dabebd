"""Addresses of a Redis that Sentinels watch: they tell which of its servers is to be asked now. No library of Redis is
needed to read one.

    redis+sentinel://[user:password@]host:port,host:port/service[/database][?sentinel_auth=yes]
"""

import re
from dataclasses import dataclass, field
from urllib.parse import unquote

from configuration.port import check_port

SCHEME = re.compile(r"rediss?\+sentinel://")
_FORM = "redis+sentinel://host:26379,host:26379/service/0"
_DEFAULT_PORT = 26379
_PARTS = re.compile(
    r"""
    redis(?P<tls>s?)\+sentinel://
    (?:(?P<username>[^:@/?]*):(?P<password>[^:@/?]*)@)?
    (?P<hosts>[^/?@]+)
    /(?P<service>[^/?@]+)
    (?:/(?P<database>[0-9]+))?/?
    (?:\?sentinel_auth=(?P<auth>yes|no))?
    """,
    re.VERBOSE,
)
_HOST = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?::(?P<port>[0-9]+))?")


@dataclass(frozen=True, slots=True)
class SentinelAddress:
    """Where Sentinels are, and what they call the Redis that they watch."""

    sentinels: tuple[tuple[str, int], ...]
    """Host and port of each."""
    service: str
    database: int
    username: str | None
    """The user of Redis itself."""
    password: str | None = field(repr=False)
    tls: bool
    """Whether Redis and the Sentinels are spoken to by TLS."""
    sentinel_auth: bool
    """Whether the Sentinels have the same user and password. Without a password they refuse to be told one."""

    @classmethod
    def read(cls, url: str) -> "SentinelAddress | None":
        """None for an address of another kind. Raises `ValueError`, whose words repeat no password."""
        if not SCHEME.match(url):
            return None
        found = _PARTS.fullmatch(url)
        if found is None:
            raise ValueError(
                f"Sentinels are written as {_FORM}, special characters of a password as %40, %23, .., and "
                "?sentinel_auth=yes behind it where they have the same password"
            )
        return cls(
            sentinels=tuple(_host(part) for part in found["hosts"].split(",")),
            service=unquote(found["service"]),
            database=int(found["database"] or 0),
            username=unquote(found["username"] or "") or None,
            password=unquote(found["password"] or "") or None,
            tls=bool(found["tls"]),
            sentinel_auth=found["auth"] == "yes",
        )

    @property
    def name(self) -> str:
        """The address without user and password."""
        hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.sentinels)
        return f"redis{'s' * self.tls}+sentinel://{hosts}/{self.service}/{self.database}"


def _host(text: str) -> tuple[str, int]:
    found = _HOST.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no host of a Sentinel: they are written as {_FORM}")
    port = found["port"] or str(_DEFAULT_PORT)
    check_port(f"redis://host:{port}")
    return found["host"].strip("[]"), int(port)
