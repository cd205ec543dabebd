"""The places of stores."""

from tests.stores.conftest import place, redis_of_all, redis_place, sqlite_place

__all__ = ["place", "redis_of_all", "redis_place", "sqlite_place"]
