"""Counts by segment in Redis: the part of a script that adds them, and where they lie.

shokado:{<model>}:levels:<version>:<feature>:<hour>    by level and name      shokado:{<model>}:levels    their order
"""

import json
from collections import defaultdict
from collections.abc import Mapping
from typing import cast

from redis import Redis

from shokado.stores.level_counts import HOUR_S, LevelCount, hour_of

# `prefix` is "shokado:{<model>}:"; counts are by the rest of their key, and then by level and name.
ADD_LEVELS = """
local function add_levels(prefix, hour, of, counts)
    local member = of .. ':' .. hour
    for field, number in pairs(counts) do
        local sum = tonumber(redis.call('HGET', prefix .. 'levels:' .. member, field) or '0') + number
        redis.call('HSET', prefix .. 'levels:' .. member, field, string.format('%.17g', sum))
    end
    redis.call('ZADD', prefix .. 'levels', hour, member)
end
"""


def counts_text(counts: Mapping[LevelCount, float]) -> str:
    """Counts as scripts read them."""
    found: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for of, number in counts.items():
        found[f"{of.version}:{of.feature}"][json.dumps([of.level, of.name])] = float(number)
    return json.dumps(found)


def read_levels(redis: Redis, prefix: str, version: str, feature: str, since: float) -> dict[tuple[str, str], float]:
    """See `shokado.stores.store.Store.level_sums`."""
    beginning = f"{version}:{feature}:".encode()
    members = cast(list[bytes], redis.zrangebyscore(prefix + "levels", hour_of(since), "+inf"))
    sums: defaultdict[tuple[str, str], float] = defaultdict(float)
    with redis.pipeline(transaction=False) as together:
        for member in members:
            if member.startswith(beginning) and member[len(beginning) :].isdigit():
                together.hgetall(f"{prefix}levels:{member.decode()}")
        for content in cast(list[dict[bytes, bytes]], together.execute()):
            for field, value in content.items():
                level, name = json.loads(field)
                sums[level, name] += float(value)
    return dict(sums)


def forget_levels(redis: Redis, prefix: str, before: float) -> None:
    """Drop those of hours that ended before."""
    last = hour_of(before) - HOUR_S
    members = cast(list[bytes], redis.zrangebyscore(prefix + "levels", "-inf", last))
    if members:
        redis.delete(*(f"{prefix}levels:{member.decode()}" for member in members))
        redis.zremrangebyscore(prefix + "levels", "-inf", last)
