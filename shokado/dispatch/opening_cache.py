"""Which answer cache: settings go in, the cache comes out, connected to nothing yet."""

from collections.abc import Callable

from configuration.settings import CacheBackend, Settings
from shokado.dispatch.cache import Cache, MemoryCache


def open_cache(settings: Settings, call_soon: Callable[..., object]) -> Cache | None:
    """Make the cache; None where there is to be none. `call_soon` is the event loop's."""
    if settings.cache.backend is CacheBackend.MEMORY:
        return MemoryCache(settings.cache, call_soon)
    if settings.cache.url is not None and settings.cache.backend is CacheBackend.REDIS:
        # Only where it is used: it takes a while to import.
        from shokado.dispatch.redis_cache import RedisCache

        return RedisCache(settings.cache, settings.cache.url, settings.model, call_soon)
    return None
