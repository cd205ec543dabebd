"""The store of several machines: a Redis that all their workers share.

    shokado:{<model>}:newest            generation and id of the newest entry
    shokado:{<model>}:entries           content by generation        shokado:{<model>}:generations   their order
    shokado:{<model>}:reports           by worker                    shokado:{<model>}:roles         by role
    shokado:{<model>}:secrets           by value                     shokado:{<model>}:secret        of older versions
    shokado:{<model>}:settled:<key>     until it expires
    shokado:{<model>}:tallies:<minute>  by tally                     shokado:{<model>}:minutes       their order
    shokado:{<model>}:tally_marks       by minute
    shokado:{<model>}:binned:<member>   in bins of a version         shokado:{<model>}:binned        their order
    shokado:{<model>}:document:<name>   revision and content
    shokado:{<model>}:levels            see `redis_levels`
    shokado:{<model>}:experiments       see `redis_evidence`
    shokado:{<model>}:paired            see `redis_pairs`

and a channel, `shokado:{<model>}:news`, see `redis_news`.

What must happen in one piece is a script. What is confirmed was written through to the disk, if the server is set up so
that this can be had (see `RedisStore.durability`).
"""

import contextlib
import json
import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from math import ceil
from typing import Any, cast

import numpy as np
from redis.exceptions import RedisError, ResponseError

from shokado.stores import redis_evidence, redis_levels, redis_pairs
from shokado.stores.evidence import CountedEvidence, EvidenceBatch, GatheredEvidence
from shokado.stores.level_counts import LevelCount, hour_of
from shokado.stores.pairs import JoinedPair, MetPair
from shokado.stores.record import decode_entry, decode_report, encode_entry, encode_report
from shokado.stores.redis_clients import RedisClients
from shokado.stores.redis_news import RedisNews
from shokado.stores.store import (
    BEFORE,
    BINNED_BUCKET_S,
    BUCKET_S,
    EMPTY,
    GIVEN,
    MAX_KEEP_S,
    Binned,
    BinnedCounts,
    Entry,
    GenerationConflict,
    MinuteTallies,
    Position,
    Secret,
    Settlement,
    StoreUnavailable,
    Tally,
    WorkerReport,
    binned_bucket_of,
    minute_of,
)

_MAX_SETTLEMENTS = 500
"""Settlements of one script, which is done in one piece; a longer list is settled in several."""

# A user who may not publish appends all the same: what a script has done before it fails stays done.
_APPEND = """
local found = redis.call('HGET', KEYS[1], 'generation') or '0'
if found ~= ARGV[1] then return tonumber(found) end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[4])
redis.call('ZADD', KEYS[3], ARGV[2], ARGV[2])
redis.call('HSET', KEYS[1], 'generation', ARGV[2], 'id', ARGV[3])
redis.pcall('PUBLISH', ARGV[5], ARGV[2])
return -1
"""
_PUT_DOCUMENT = """
if (redis.call('HGET', KEYS[1], 'revision') or '0') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'revision', ARGV[2], 'content', ARGV[3])
return 1
"""
# What is kept of a role is "until worker", by the server's clock. What ends later than any role can was taken before
# that clock was set back, or on another server.
_TAKE_ROLE = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local ends, worker = string.match(redis.call('HGET', KEYS[1], ARGV[1]) or '0 ', '(%S+) (.*)')
local left = tonumber(ends) - now
if 0 < left and left <= tonumber(ARGV[4]) then
    if worker ~= ARGV[2] then return 0 end
    if left > ARGV[3] / 2 then return 1 end
end
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.3f %s', now + ARGV[3], ARGV[2]))
return 1
"""
_WITHDRAW = """
redis.call('HDEL', KEYS[1], ARGV[1])
local held = redis.call('HGETALL', KEYS[2])
for index = 1, #held, 2 do
    if string.match(held[index + 1], ' (.*)') == ARGV[1] then redis.call('HDEL', KEYS[2], held[index]) end
end
"""
# What is kept of a secret is "made_at idle_s placed".
_IDLE = """
local function idle(kept) return tonumber(string.match(kept, ' (%S+) ')) end
local function with_idle(kept, seconds) return (string.gsub(kept, ' %S+ ', ' ' .. seconds .. ' ')) end
"""
_KEEP_SECRETS = f"""{_IDLE}
local function keep(value, told)
    local kept = redis.call('HGET', KEYS[1], value)
    if not kept then
        redis.call('HSET', KEYS[1], value, told)
    elseif idle(told) < idle(kept) then
        redis.call('HSET', KEYS[1], value, with_idle(kept, string.match(told, ' (%S+) ')))
    end
end
local old = redis.call('EXISTS', KEYS[1]) == 0 and redis.call('GET', KEYS[2])
if old then keep(old, ARGV[2] .. ' 0 ') end
for index = 5, #ARGV, 2 do keep(ARGV[index], ARGV[index + 1]) end
local made = false
for _, kept in ipairs(redis.call('HVALS', KEYS[1])) do
    made = made or tonumber(string.match(kept, '%S+')) > tonumber(ARGV[1])
end
if not made and ARGV[3] ~= '' then keep(ARGV[3], ARGV[4]) end
return redis.call('HGETALL', KEYS[1])
"""
_AGE_SECRETS = f"""{_IDLE}
local found = redis.call('HGETALL', KEYS[1])
for index = 1, #found, 2 do
    local value, kept = found[index], found[index + 1]
    if value ~= ARGV[3] and idle(kept) > tonumber(ARGV[2]) then
        redis.call('HDEL', KEYS[1], value)
    elseif value ~= ARGV[3] then
        redis.call('HSET', KEYS[1], value, with_idle(kept, string.format('%.17g', idle(kept) + ARGV[1])))
    end
end
"""
# The keys are `_tallies_keys`, and the first arguments the minute and its new mark. In doubles, as SQLite does:
# HINCRBYFLOAT keeps 17 digits after the point, and nothing of what is smaller.
_ADD = """
local function add(counts)
    if next(counts) == nil then return end
    for tally, number in pairs(counts) do
        local sum = tonumber(redis.call('HGET', KEYS[1], tally) or '0') + number
        redis.call('HSET', KEYS[1], tally, string.format('%.17g', sum))
    end
    redis.call('ZADD', KEYS[2], ARGV[1], ARGV[1])
    redis.call('HSET', KEYS[3], ARGV[1], ARGV[2])
end
"""
_ADD_ALL = f"{_ADD} add(cjson.decode(ARGV[3]))"
_ADD_BATCH = f"{redis_evidence.SEE}{redis_pairs.PAIRS}{redis_evidence.ADD_BATCH}"
_SETTLE = f"""{_ADD}{redis_evidence.SEE}{redis_pairs.PAIRS}{redis_levels.ADD_LEVELS}
local counted, sums = {{}}, {{}}
for index, settlement in ipairs(cjson.decode(ARGV[3])) do
    local new = redis.call('SET', KEYS[index + 3], 1, 'NX', 'PX', settlement[1])
    counted[index] = new and 1 or 0
    for tally, number in pairs(new and settlement[2] or {{}}) do
        sums[tally] = (sums[tally] or 0) + number
    end
    for _, sighting in ipairs(new and settlement[3] or {{}}) do see(ARGV[4], sighting) end
    for _, label in ipairs(new and settlement[4] or {{}}) do keep_label(ARGV[4], label) end
    for of, numbers in pairs(new and settlement[5] or {{}}) do add_levels(ARGV[4], ARGV[5], of, numbers) end
end
add(sums)
return counted
"""


class RedisStore:
    """See `shokado.stores.store.Store`. Connects when it is first used, and again after each failure."""

    def __init__(self, url: str, model: str) -> None:
        """`url` is as `RedisClients.of` takes it. Raises `ValueError`."""
        self._clients = RedisClients.of(url)
        self.name = self._clients.name
        self._redis, self._sentinel = self._clients.open()
        self._prefix = f"shokado:{{{model}}}:"
        self._append = self._redis.register_script(_APPEND)
        self._add = self._redis.register_script(_ADD_ALL)
        self._take_role = self._redis.register_script(_TAKE_ROLE)
        self._withdraw = self._redis.register_script(_WITHDRAW)
        self._settle = self._redis.register_script(_SETTLE)
        self._keep_secrets = self._redis.register_script(_KEEP_SECRETS)
        self._age_secrets = self._redis.register_script(_AGE_SECRETS)
        self._add_batch = self._redis.register_script(_ADD_BATCH)
        self._add_levels = self._redis.register_script(redis_levels.ADD)
        self._put_document = self._redis.register_script(_PUT_DOCUMENT)
        self._join_pairs = self._redis.register_script(redis_pairs.JOIN)
        self._durability: str | None = None

    @property
    def durability(self) -> str:
        return self._durability or ""

    def position(self) -> Position:
        with self._explained():
            if self._durability is None:
                self._inspect()
            generation, entry_id = cast(list[Any], self._redis.hmget(self._key("newest"), ["generation", "id"]))
            return Position(int(generation), entry_id.decode()) if generation is not None else EMPTY

    def news(self) -> RedisNews:
        return RedisNews(self._clients, self._key("news"))

    def read(self) -> Entry | None:
        generation = self.position().generation
        return self.entry(generation) if generation else None

    def append(self, entry: Entry, expected: int) -> None:
        if entry.generation <= expected:
            raise ValueError(f"generation {entry.generation} cannot follow {expected}")
        keys = [self._key("newest"), self._key("entries"), self._key("generations")]
        told: list[int | str | bytes] = [expected, entry.generation, entry.id, encode_entry(entry), self._key("news")]
        with self._explained():
            found = cast(int, self._append(keys, told))
            if found >= 0:
                raise GenerationConflict(expected, found)

    def entry(self, generation: int) -> Entry | None:
        with self._explained():
            content = cast("bytes | None", self._redis.hget(self._key("entries"), str(generation)))
            return decode_entry(content) if content is not None else None

    def history(self, limit: int, before: int | None = None) -> list[Entry]:
        top = "+inf" if before is None else f"({before}"
        with self._explained():
            found = self._redis.zrevrangebyscore(self._key("generations"), top, "-inf", start=0, num=limit)
            generations = cast(list[Any], found)
            if not generations:
                return []
            contents = cast(list[Any], self._redis.hmget(self._key("entries"), generations))
            return [decode_entry(content) for content in contents if content is not None]

    def secrets(self) -> list[Secret]:
        with self._explained():
            found = cast(dict[bytes, bytes], self._redis.hgetall(self._key("secrets")))
            return [_secret(value, kept) for value, kept in found.items()]

    def keep_secrets(self, known: Sequence[Secret], fresh: Secret | None = None) -> list[Secret]:
        keys = [self._key("secrets"), self._key("secret")]
        told = [b"", b""] if fresh is None else _told(fresh)
        for secret in known:
            told += _told(secret)
        with self._explained():
            found = iter(cast(list[bytes], self._keep_secrets(keys, [GIVEN, BEFORE, *told])))
            return [_secret(value, kept) for value, kept in zip(found, found, strict=True)]

    def age_secrets(self, by_s: float, limit_s: float, sealing: bytes) -> None:
        with self._explained():
            self._age_secrets([self._key("secrets")], [by_s, limit_s, sealing])

    def report(self, report: WorkerReport, keep_s: float) -> None:
        content = f"{report.at + keep_s:.3f} {encode_report(report).decode()}"
        with self._explained():
            self._redis.hset(self._key("reports"), report.worker, content)

    def reports(self, now: float) -> list[WorkerReport]:
        found = self._kept_reports()
        with self._explained():
            return [decode_report(content) for _, (until, content) in sorted(found.items()) if _is_kept(until, now)]

    def withdraw(self, worker: str) -> None:
        with self._explained():
            self._withdraw([self._key("reports"), self._key("roles")], [worker])

    def take_role(self, role: str, worker: str, for_s: float, now: float) -> bool:  # noqa: ARG002  # the server's clock
        with self._explained():
            return bool(self._take_role([self._key("roles")], [role, worker, for_s, MAX_KEEP_S]))

    def settle(self, settlements: Sequence[Settlement], at: float) -> list[bool]:
        counted: list[bool] = []
        for start in range(0, len(settlements), _MAX_SETTLEMENTS):
            counted += self._settle_some(settlements[start : start + _MAX_SETTLEMENTS], at)
        return counted

    def add(self, counts: Mapping[Tally, float], at: float) -> None:
        minute = minute_of(at)
        with self._explained():
            self._add(self._tallies_keys(minute), [minute, _new_mark(), _counts(counts)])

    def tallies(self, since: float) -> dict[tuple[int, Tally], float]:
        with self._explained():
            minutes = self._minutes(since)
            with self._redis.pipeline(transaction=False) as together:
                for minute in minutes:
                    together.hgetall(self._tallies_key(minute))
                contents = together.execute()
            return {
                (minute, Tally(*json.loads(field))): float(value)
                for minute, content in zip(minutes, contents, strict=True)
                for field, value in content.items()
            }

    def tally_marks(self, since: float) -> dict[int, str | None]:
        with self._explained():
            minutes = self._minutes(since)
            if not minutes:
                return {}
            marks = cast(list[bytes | None], self._redis.hmget(self._key("tally_marks"), [str(one) for one in minutes]))
            return {minute: mark.decode() if mark else None for minute, mark in zip(minutes, marks, strict=True)}

    def tallies_of(self, minutes: Collection[int]) -> dict[int, MinuteTallies]:
        with self._explained(), self._redis.pipeline(transaction=True) as together:
            for minute in minutes:
                together.hget(self._key("tally_marks"), str(minute))
                together.hgetall(self._tallies_key(minute))
            found = iter(together.execute())
            return {
                minute: MinuteTallies(
                    mark.decode() if mark else None,
                    {Tally(*json.loads(field)): float(value) for field, value in content.items()},
                )
                for minute, mark, content in zip(minutes, found, found, strict=True)
                if content
            }

    def add_levels(self, counts: Mapping[LevelCount, float], at: float) -> None:
        with self._explained():
            self._add_levels([self._key("levels")], [self._prefix, hour_of(at), redis_levels.counts_text(counts)])

    def level_sums(self, version: str, feature: str, since: float) -> dict[tuple[str, str], float]:
        with self._explained():
            return redis_levels.read_levels(self._redis, self._prefix, version, feature, since)

    def add_evidence(self, batch: EvidenceBatch, at: float) -> None:  # noqa: ARG002  # keys expire by themselves
        keys = [self._key(f"evidence_batch:{batch.worker}")]
        with self._explained():
            told = redis_evidence.batch_arguments(self._prefix, batch)
            self._add_batch(keys, [*told, redis_pairs.scores_text(batch.scores)])

    def evidence(self, experiment: str, before: float) -> GatheredEvidence:
        return self.counted_evidence(experiment).before(before)

    def counted_evidence(self, experiment: str) -> CountedEvidence:
        with self._explained():
            return redis_evidence.read_evidence(self._redis, self._prefix, experiment)

    def forget_evidence(self, keep: Collection[str], now: float) -> None:  # noqa: ARG002  # keys expire by themselves
        with self._explained():
            redis_evidence.forget_evidence(self._redis, self._prefix, keep)

    def met_pairs(self, experiment: str, at_most: int) -> list[MetPair]:
        with self._explained():
            return redis_pairs.read_met(self._redis, self._prefix, experiment, at_most)

    def join_pairs(self, experiment: str, joined: Sequence[JoinedPair]) -> None:
        keys = [redis_pairs.met_key(self._prefix, experiment)]
        with self._explained():
            self._join_pairs(keys, [self._prefix, experiment, redis_pairs.joined_text(joined)])

    def forget_pairs(self, keep: Mapping[str, int]) -> None:
        with self._explained():
            redis_pairs.forget_pairs(self._redis, self._prefix, keep)

    def add_binned(self, counts: Mapping[Binned, BinnedCounts], at: float) -> None:
        bucket = binned_bucket_of(at)
        with self._explained(), self._redis.pipeline(transaction=True) as together:
            for of, more in counts.items():
                member = json.dumps([bucket, *of])
                fields = together.bitfield(self._binned_key(member))
                # The last one always, as bytes behind the last that was set are not there.
                for cell in {*np.flatnonzero(more).tolist(), len(more) - 1}:
                    fields.incrby("i64", f"#{cell}", int(more[cell]))
                fields.execute()
                together.zadd(self._key("binned"), {member: bucket})
            together.execute()

    def binned(self, of: Binned, since: float) -> dict[int, BinnedCounts]:
        with self._explained():
            found = self._redis.zrangebyscore(self._key("binned"), binned_bucket_of(since), "+inf")
            members = [(member, json.loads(member)) for member in cast(list[bytes], found)]
            mine = {bucket: member.decode() for member, (bucket, *rest) in members if tuple(rest) == of}
            if not mine:
                return {}
            contents = cast(list[Any], self._redis.mget([self._binned_key(member) for member in mine.values()]))
            return {
                bucket: np.frombuffer(content, ">i8").astype(np.int64)
                for bucket, content in zip(mine, contents, strict=True)
                if content is not None
            }

    def forget_binned(self, before: float) -> None:
        last = binned_bucket_of(before) - BINNED_BUCKET_S
        with self._explained():
            members = cast(list[bytes], self._redis.zrangebyscore(self._key("binned"), "-inf", last))
            if members:
                self._redis.delete(*(self._binned_key(member.decode()) for member in members))
                self._redis.zremrangebyscore(self._key("binned"), "-inf", last)

    def document(self, name: str) -> tuple[int, bytes | None]:
        with self._explained():
            found = self._redis.hmget(self._key(f"document:{name}"), ["revision", "content"])
            revision, content = cast(list[bytes | None], found)
            return (int(revision), content) if revision is not None else (0, None)

    def put_document(self, name: str, content: bytes, revision: int) -> bool:
        with self._explained():
            return bool(self._put_document([self._key(f"document:{name}")], [revision, revision + 1, content]))

    def forget(self, before: float, now: float) -> None:
        # Settled keys expire by themselves.
        late = [worker for worker, (until, _) in self._kept_reports().items() if not _is_kept(until, now)]
        with self._explained():
            redis_levels.forget_levels(self._redis, self._prefix, before)
            if late:
                self._redis.hdel(self._key("reports"), *late)
            last = minute_of(before) - BUCKET_S
            minutes = cast(list[Any], self._redis.zrangebyscore(self._key("minutes"), "-inf", last))
            if minutes:
                self._redis.delete(*(self._tallies_key(int(minute)) for minute in minutes))
                self._redis.hdel(self._key("tally_marks"), *minutes)
                self._redis.zremrangebyscore(self._key("minutes"), "-inf", last)

    def close(self) -> None:
        self._redis.close()
        if self._sentinel is not None:
            self._sentinel.close()

    def _kept_reports(self) -> dict[str, tuple[float, bytes]]:
        """Each worker's report, and until when it is kept."""
        kept: dict[str, tuple[float, bytes]] = {}
        with self._explained():
            for worker, content in cast(dict[bytes, bytes], self._redis.hgetall(self._key("reports"))).items():
                until, _, report = content.partition(b" ")
                kept[worker.decode()] = float(until), report
        return kept

    def _settle_some(self, settlements: Sequence[Settlement], at: float) -> list[bool]:
        minute = minute_of(at)
        keys = [self._key(f"settled:{settlement.key}") for settlement in settlements]
        # For how long, not until when: the server's clock may differ.
        content = ",".join(
            f"[{max(1, ceil((settlement.expires_at - at) * 1000))},{_counts(settlement.counts)},"
            f"{redis_evidence.sightings_text(settlement.sightings)},{redis_pairs.label_text(settlement.paired)},"
            f"{redis_levels.counts_text(settlement.levels)}]"
            for settlement in settlements
        )
        told: list[str | int] = [minute, _new_mark(), f"[{content}]", self._prefix, hour_of(at)]
        with self._explained():
            counted = cast(list[int], self._settle([*self._tallies_keys(minute), *keys], told))
        return [bool(new) for new in counted]

    def _inspect(self) -> None:
        """Learn what the server may lose.

        `WAITAOF` would make up for `appendfsync everysec`, but some servers answer it too early (redis issue 13793),
        and the others after a second.
        """
        try:
            found = cast(dict[str, str], self._redis.config_get("append*"))
            memory = cast(dict[str, str], self._redis.config_get("maxmemory*"))
        except ResponseError:
            self._durability = "the server does not tell whether it writes changes to its disk"
            return
        evicting = memory.get("maxmemory", "0") != "0" and memory.get("maxmemory-policy") != "noeviction"
        if found.get("appendonly") != "yes":
            self._durability = "a crash of the server may lose changes: it should run with appendonly yes"
        elif found.get("appendfsync") != "always":
            self._durability = "a crash may lose the last second: the server should run with appendfsync always"
        elif evicting:
            self._durability = "a full server forgets at will: it should run with maxmemory-policy noeviction"
        else:
            self._durability = ""

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (RedisError, OSError, ValueError) as error:
            # Another server may answer next, or the same one set up otherwise.
            self._durability = None
            raise StoreUnavailable(f"the store {self.name} cannot be used: {error}") from error

    def _key(self, name: str) -> str:
        return self._prefix + name

    def _minutes(self, since: float) -> list[int]:
        """Those from `since` on that have tallies."""
        found = self._redis.zrangebyscore(self._key("minutes"), minute_of(since), "+inf")
        return [int(minute) for minute in cast(list[Any], found)]

    def _tallies_key(self, minute: int) -> str:
        return self._key(f"tallies:{minute}")

    def _binned_key(self, member: str) -> str:
        return self._key(f"binned:{member}")

    def _tallies_keys(self, minute: int) -> list[str]:
        return [self._tallies_key(minute), self._key("minutes"), self._key("tally_marks")]


def _is_kept(until: float, now: float) -> bool:
    return now < until <= now + MAX_KEEP_S


def _new_mark() -> str:
    return secrets.token_hex(8)


def _told(secret: Secret) -> list[bytes]:
    """The secret's value, and what is kept beside it."""
    return [secret.value, f"{secret.made_at!r} {secret.idle_s!r} {secret.placed}".encode()]


def _secret(value: bytes, kept: bytes) -> Secret:
    made_at, idle_s, placed = kept.decode().split(" ")
    return Secret(value, float(made_at), float(idle_s), placed)


def _counts(counts: Mapping[Tally, float]) -> str:
    return json.dumps({json.dumps(tally): float(number) for tally, number in counts.items()})
