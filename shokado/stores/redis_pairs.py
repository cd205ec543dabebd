"""Pairs in Redis: the parts of scripts that have them meet, and where they lie.

shokado:{<model>}:paired                                       ids of all experiments that have any
shokado:{<model>}:experiment:<id>:paired                       their cohorts
shokado:{<model>}:experiment:<id>:shadow_scores:<cohort>       hex by key
shokado:{<model>}:experiment:<id>:paired_labels:<cohort>       those that wait, a list of [row, content] by key
shokado:{<model>}:experiment:<id>:label_order:<cohort>         <key>:<row> of those, in the order in which they came
shokado:{<model>}:experiment:<id>:met                          [content, hex] by [cohort, key, row]
"""

import json
from collections.abc import Mapping, Sequence
from typing import cast

from redis import Redis

from shokado.stores.evidence import ShadowScores
from shokado.stores.pairs import JoinedPair, MetPair, PairedLabel
from shokado.stores.redis_evidence import SEE, counts_by_text, sightings_text

# Scores are [experiment, cohort, key, answers, at_most, no_room], a label [experiment, cohort, key, row, content,
# waits, at_most, counted, let_go]. Cohorts are texts, as all that is part of a name.
PAIRS = """
local function paired_at(prefix, experiment, kind, cohort)
    redis.call('SADD', prefix .. 'paired', experiment)
    redis.call('SADD', prefix .. 'experiment:' .. experiment .. ':paired', cohort)
    return prefix .. 'experiment:' .. experiment .. ':' .. kind .. ':' .. cohort
end
local function meet(prefix, experiment, cohort, key, row, content, answers)
    local field = cjson.encode({cohort, key, string.format('%d', row)})
    redis.call('HSET', prefix .. 'experiment:' .. experiment .. ':met', field, cjson.encode({content, answers}))
end
local function named(key, row) return key .. ':' .. string.format('%d', row) end
local function keep_scores(prefix, scores)
    local experiment, cohort, key, answers, at_most, no_room = unpack(scores)
    local kept = paired_at(prefix, experiment, 'shadow_scores', cohort)
    local waiting = paired_at(prefix, experiment, 'paired_labels', cohort)
    local order = paired_at(prefix, experiment, 'label_order', cohort)
    if redis.call('HLEN', kept) >= at_most then return count(prefix, experiment, no_room) end
    redis.call('HSETNX', kept, key, answers)
    for _, label in ipairs(cjson.decode(redis.call('HGET', waiting, key) or '[]')) do
        meet(prefix, experiment, cohort, key, label[1], label[2], answers)
        redis.call('ZREM', order, named(key, label[1]))
    end
    redis.call('HDEL', waiting, key)
end
local function remove(waiting, name)
    local key, row = string.match(name, '^(.*):(%d+)$')
    local left = {}
    for _, label in ipairs(cjson.decode(redis.call('HGET', waiting, key) or '[]')) do
        if label[1] ~= tonumber(row) then table.insert(left, label) end
    end
    if #left == 0 then return redis.call('HDEL', waiting, key) end
    redis.call('HSET', waiting, key, cjson.encode(left))
end
local function keep_label(prefix, label)
    local experiment, cohort, key, row, content, waits, at_most, counted, let_go = unpack(label)
    count(prefix, experiment, counted)
    local answers = redis.call('HGET', paired_at(prefix, experiment, 'shadow_scores', cohort), key)
    if answers then return meet(prefix, experiment, cohort, key, row, content, answers) end
    if not waits then return end
    local waiting = paired_at(prefix, experiment, 'paired_labels', cohort)
    local order = paired_at(prefix, experiment, 'label_order', cohort)
    while redis.call('ZCARD', order) >= at_most do
        remove(waiting, redis.call('ZPOPMIN', order)[1])
        count(prefix, experiment, let_go)
    end
    local labels = cjson.decode(redis.call('HGET', waiting, key) or '[]')
    table.insert(labels, {row, content})
    redis.call('HSET', waiting, key, cjson.encode(labels))
    local last = redis.call('ZRANGE', order, -1, -1, 'WITHSCORES')[2] or '0'
    redis.call('ZADD', order, string.format('%d', tonumber(last) + 1), named(key, row))
end
"""
JOIN = f"""{SEE}
for _, joined in ipairs(cjson.decode(ARGV[3])) do
    local field, counts, sightings = unpack(joined)
    if redis.call('HDEL', KEYS[1], field) == 1 then
        count(ARGV[1], ARGV[2], counts)
        for _, sighting in ipairs(sightings) do see(ARGV[1], sighting) end
    end
end
"""


def scores_text(scores: Sequence[ShadowScores]) -> str:
    """Scores as scripts read them."""
    return json.dumps(
        [
            [one.experiment, str(one.cohort), one.key, one.answers.hex(), one.at_most, counts_by_text({one.no_room: 1})]
            for one in scores
        ]
    )


def label_text(label: PairedLabel | None) -> str:
    """A list of one or no label as scripts read it."""
    if label is None:
        return "[]"
    counted, let_go = (counts_by_text({of: 1}) for of in (label.counted, label.let_go))
    told = [str(label.cohort), label.key, label.row, label.content, label.waits, label.at_most, counted, let_go]
    return json.dumps([[label.experiment, *told]])


def joined_text(joined: Sequence[JoinedPair]) -> str:
    """What pairs are worth, as `JOIN` reads it."""
    return json.dumps(
        [
            [
                _field(one.pair),
                counts_by_text(one.counts),
                json.loads(sightings_text([one.sighting] if one.sighting is not None else [])),
            ]
            for one in joined
        ]
    )


def met_key(prefix: str, experiment: str) -> str:
    """Where pairs are that have met."""
    return f"{prefix}experiment:{experiment}:met"


def read_met(redis: Redis, prefix: str, experiment: str, at_most: int) -> list[MetPair]:
    """See `shokado.stores.store.Store.met_pairs`."""
    found: dict[bytes, bytes] = {}
    for field, value in redis.hscan_iter(met_key(prefix, experiment), count=at_most):
        found[field] = value
        if len(found) == at_most:
            break
    pairs = []
    for field, value in found.items():
        (cohort, key, row), (content, answers) = json.loads(field), json.loads(value)
        pairs.append(MetPair(int(cohort), key, int(row), content, bytes.fromhex(answers)))
    return pairs


def forget_pairs(redis: Redis, prefix: str, keep: Mapping[str, int]) -> None:
    """See `shokado.stores.store.Store.forget_pairs`."""
    for member in cast(set[bytes], redis.smembers(prefix + "paired")):
        experiment = member.decode()
        cohorts = f"{prefix}experiment:{experiment}:paired"
        for cohort in cast(set[bytes], redis.smembers(cohorts)):
            if experiment not in keep or int(cohort) < keep[experiment]:
                kinds = ("shadow_scores", "paired_labels", "label_order")
                redis.unlink(*(f"{prefix}experiment:{experiment}:{kind}:{cohort.decode()}" for kind in kinds))
                redis.srem(cohorts, cohort)
        if experiment not in keep:
            redis.unlink(met_key(prefix, experiment))
            redis.srem(prefix + "paired", experiment)


def _field(pair: MetPair) -> str:
    """As cjson writes it, whose lists have no spaces."""
    return json.dumps([str(pair.cohort), pair.key, str(pair.row)], separators=(",", ":"))
