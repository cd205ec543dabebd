"""Evidence of experiments in Redis: the parts of scripts that add it, and where it lies.

shokado:{<model>}:experiments                                  ids of all that have evidence
shokado:{<model>}:experiment:<id>:scopes                       "lowest level, highest, units" by scope
shokado:{<model>}:experiment:<id>:sums:<scope>:<level>         by stage, version, cohort and name
shokado:{<model>}:experiment:<id>:units:<scope>:<level>
shokado:{<model>}:evidence_batch:<worker>                      number of the last one that was added
"""

import json
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any, cast

from redis import Redis

from shokado.stores.evidence import KEEP_BATCHES_S, PLAIN, CountedEvidence, Evidence, EvidenceBatch, Sighting

# `prefix` is "shokado:{<model>}:"; a sighting is [experiment, scope, level, unit, at_most, counts].
SEE = """
local function add_to(key, counts)
    for field, number in pairs(counts) do
        local sum = tonumber(redis.call('HGET', key, field) or '0') + number
        redis.call('HSET', key, field, string.format('%.17g', sum))
    end
end
local function scope_of(prefix, experiment, scope)
    redis.call('SADD', prefix .. 'experiments', experiment)
    local kept = redis.call('HGET', prefix .. 'experiment:' .. experiment .. ':scopes', scope) or '0 0 0'
    local lowest, highest, units = string.match(kept, '(%d+) (%d+) (%d+)')
    return tonumber(lowest), tonumber(highest), tonumber(units)
end
local function keep_scope(prefix, experiment, scope, lowest, highest, units)
    local kept = string.format('%d %d %d', lowest, highest, units)
    redis.call('HSET', prefix .. 'experiment:' .. experiment .. ':scopes', scope, kept)
end
local function count(prefix, experiment, counts)
    local lowest, highest, units = scope_of(prefix, experiment, '')
    keep_scope(prefix, experiment, '', lowest, highest, units)
    add_to(prefix .. 'experiment:' .. experiment .. ':sums::0', counts)
end
local function see(prefix, sighting)
    local experiment, scope, level, unit, at_most, counts = unpack(sighting)
    local lowest, highest, units = scope_of(prefix, experiment, scope)
    if level < lowest then return end
    local base = prefix .. 'experiment:' .. experiment
    local function at(kind, of) return base .. ':' .. kind .. ':' .. scope .. ':' .. string.format('%d', of) end
    if redis.call('SADD', at('units', level), unit) == 0 then return end
    add_to(at('sums', level), counts)
    units, highest = units + 1, math.max(highest, level)
    while units > at_most do
        units = units - redis.call('SCARD', at('units', lowest))
        redis.call('UNLINK', at('units', lowest), at('sums', lowest))
        lowest = lowest + 1
    end
    keep_scope(prefix, experiment, scope, lowest, math.max(highest, lowest), units)
end
"""
ADD_BATCH = """
local last = redis.call('GET', KEYS[1])
if last and tonumber(last) >= tonumber(ARGV[2]) then return end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
for experiment, counts in pairs(cjson.decode(ARGV[4])) do count(ARGV[1], experiment, counts) end
for _, sighting in ipairs(cjson.decode(ARGV[5])) do see(ARGV[1], sighting) end
for _, scores in ipairs(cjson.decode(ARGV[6])) do keep_scores(ARGV[1], scores) end
"""


def batch_arguments(prefix: str, batch: EvidenceBatch) -> list[Any]:
    """What `ADD_BATCH` is given, without the scores."""
    counts: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for (experiment, of), number in batch.counts.items():
        counts[experiment][json.dumps(of)] = float(number)
    return [prefix, batch.number, round(KEEP_BATCHES_S), json.dumps(counts), sightings_text(batch.sightings)]


def counts_by_text(counts: Mapping[Evidence, float]) -> dict[str, float]:
    """Numbers by the text of what they are counted for."""
    return {json.dumps(of): float(number) for of, number in counts.items()}


def sightings_text(sightings: Sequence[Sighting]) -> str:
    """Sightings as scripts read them."""
    return json.dumps(
        [
            [
                sighting.experiment,
                sighting.scope,
                sighting.level,
                sighting.unit.hex(),
                sighting.at_most,
                counts_by_text(sighting.counts),
            ]
            for sighting in sightings
        ]
    )


def read_evidence(redis: Redis, prefix: str, experiment: str) -> CountedEvidence:
    """See `shokado.stores.store.Store.counted_evidence`."""
    scopes = _scopes(redis, prefix, experiment)
    with redis.pipeline(transaction=True) as together:
        for key in _keys(prefix, experiment, scopes, "sums"):
            together.hgetall(key)
        contents = cast(list[dict[bytes, bytes]], together.execute())
    rows: defaultdict[Evidence, float] = defaultdict(float)
    for content in contents:
        for of, value in content.items():
            rows[Evidence(*json.loads(of))] += float(value)
    halvings = {scope: levels.start for scope, levels in scopes.items() if scope != PLAIN}
    return CountedEvidence(rows, halvings)


def forget_evidence(redis: Redis, prefix: str, keep: Collection[str]) -> None:
    """Drop all that is of other experiments."""
    for member in cast(set[bytes], redis.smembers(prefix + "experiments")):
        experiment = member.decode()
        if experiment in keep:
            continue
        scopes = _scopes(redis, prefix, experiment)
        keys = [key for kind in ("sums", "units") for key in _keys(prefix, experiment, scopes, kind)]
        redis.unlink(*keys, f"{prefix}experiment:{experiment}:scopes")
        redis.srem(prefix + "experiments", experiment)


def _scopes(redis: Redis, prefix: str, experiment: str) -> Mapping[str, range]:
    """The levels that are kept of each scope."""
    found = cast(dict[bytes, bytes], redis.hgetall(f"{prefix}experiment:{experiment}:scopes"))
    scopes = {}
    for scope, kept in found.items():
        lowest, highest, _ = map(int, kept.split())
        scopes[scope.decode()] = range(lowest, highest + 1)
    return scopes


def _keys(prefix: str, experiment: str, scopes: Mapping[str, range], kind: str) -> list[str]:
    return [
        f"{prefix}experiment:{experiment}:{kind}:{scope}:{level}"
        for scope, levels in scopes.items()
        for level in levels
    ]
