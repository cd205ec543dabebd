"""The backends of stores."""

from tests.stores.conftest import backend, redis_backend, redis_of_all, sqlite_backend

__all__ = ["backend", "redis_backend", "redis_of_all", "sqlite_backend"]
