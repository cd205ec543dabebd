"""File descriptors: each connection takes one, and a process may only have so many open."""

import logging
import resource

RESERVED = 200
"""Descriptors for everything that is no connection: the store, models, libraries, metrics."""

logger = logging.getLogger("bentoml.shokado")


def allow_connections(*wanted: int) -> tuple[int, ...]:
    """Raise the soft limit as far as need be and the hard one allows; returns how many connections there is room for.

    `wanted` has a number for each listener, so that none takes what another needs. Says so where there is less room.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = sum(wanted) + RESERVED
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    room = tuple(max(1, (allowed - RESERVED) * number // sum(wanted)) for number in wanted)
    if room < wanted:
        words = "at most %s connections instead of max_connections, %s: only %d files may be open (ulimit -Hn)"
        logger.warning(words, " and ".join(map(str, room)), " and ".join(map(str, wanted)), hard)
    return room
