"""Which store: an address goes in, the store comes out, unopened."""

from pathlib import Path

from configuration.sentinel_address import SCHEME
from shokado.stores.sqlite_store import SqliteStore
from shokado.stores.store import Store

_SQLITE = "sqlite:///"


def open_store(url: str, model: str, root: Path) -> Store:
    """The store at `sqlite:///path`, relative to `root`, `sqlite:////path`, `redis://..` or `redis+sentinel://..`.

       `{model}` is filled in.
    Nothing is read or written yet. Raises `ValueError` for any other form, without repeating what may hold a password.
    """
    url = url.replace("{model}", model)
    if url.startswith(_SQLITE) and url != _SQLITE:
        return SqliteStore(root / url.removeprefix(_SQLITE))
    if url.startswith(("redis://", "rediss://")) or SCHEME.match(url):
        # Only where it is used: it takes a while to import.
        from shokado.stores.redis_store import RedisStore

        return RedisStore(url, model)
    kind = url.partition(":")[0]
    raise ValueError(f"{kind!r} is no store: use sqlite:///path, sqlite:////path or redis://host:port/db")
