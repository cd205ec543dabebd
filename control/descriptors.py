"""File descriptors: each connection takes one, and a process may only have so many open."""

import logging
import resource

RESERVED = 200
"""For everything that is no connection: the store, models, libraries, metrics."""

logger = logging.getLogger("bentoml.shokado")


def allow_connections(wanted: int) -> int:
    """Raise the soft limit as far as need be and the hard one allows; returns how many connections there is room for.

    Says so where that is fewer than `wanted`.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + RESERVED
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    room = max(1, allowed - RESERVED)
    if room < wanted:
        words = "at most %d connections instead of limits.max_connections, %d: only %d files may be open (ulimit -Hn)"
        logger.warning(words, room, wanted, hard)
    return room
