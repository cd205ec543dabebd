"""Requests that name entities, from their body to their one reply, with a transformer that answers when it is told."""

import asyncio
import gzip
import json
from collections.abc import Callable
from typing import Any

import pytest

from configuration.feature_settings import FeatureSettings
from runners.errors import Unreachable
from runners.placements.far_side import EndpointError
from shokado.dialects.head import RequestHead
from shokado.dispatch.fault import Fault
from shokado.dispatch.request import Prediction
from shokado.features.feature_lookup import FeatureLookup, Lookup
from shokado.transports.call import Call
from shokado.transports.entity_call import EntityHandler, EntityRequest, FeatureSource
from tests.features.test_feature_lookup import ADDRESS, HeldTransformer
from tests.support.garbage import of_kinds, uncollected
from tests.support.waiting import in_time, until
from tests.transports.memory_exchange import MemoryExchange
from tests.transports.test_call import NATIVE, CallBench

BODY = b'{"entities": {"id": 7}, "instances": [{"height": 1, "width": 2}]}'
"""The feature that it lacks is called so in the toy model, and `ten` in the transformer."""


class Bench(CallBench):
    """Calls behind a lookup of features, of which the transformer has `depth`."""

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        content = {"url": ADDRESS, "entities": {"id": "integer"}, "timeout_ms": 60_000, **settings}
        chosen = FeatureSettings.model_validate(content)
        self.transformer = HeldTransformer("depth")
        self.lookup = FeatureLookup(chosen, self.transformer)
        source = FeatureSource(chosen, self.lookup, 100, 10_000)
        self.entity_handler = EntityHandler(self.handler, NATIVE, source)
        self.exchange = MemoryExchange()

    def begin(self, body: bytes = BODY, **head: Any) -> Any:
        return self.entity_handler.begin(RequestHead(**head), body, self.exchange)

    async def answered(self) -> None:
        await until(lambda: self.transformer.calls)
        self.transformer.answer()
        await until(lambda: self.runner.jobs or self.exchange.status)

    def rows(self) -> list[float]:
        return list(memoryview(self.runner.jobs[0].rows).cast("B").cast("f"))

    @property
    def code(self) -> Any:
        return self.exchange.json["error"]["code"]


def run(scenario: Callable[[Bench], Any], **settings: Any) -> None:
    async def whole() -> None:
        await scenario(Bench(**settings))

    in_time(whole())


def test_a_row_is_completed_scored_and_answered_once() -> None:
    async def scenario(bench: Bench) -> None:
        bench.begin()
        await bench.answered()
        assert bench.rows() == [1.0, 2.0, 70.0]
        bench.runner.finish([0.25])
        assert bench.exchange.status == 200
        assert bench.exchange.json["predictions"] == [0.25]

    run(scenario)


def test_a_compressed_body_is_read_as_well() -> None:
    async def scenario(bench: Bench) -> None:
        bench.begin(gzip.compress(BODY), coding=b"gzip")
        await bench.answered()
        assert bench.rows() == [1.0, 2.0, 70.0]

    run(scenario)


@pytest.mark.parametrize(
    ("body", "head"),
    [
        (b'{"instances": [[1, 2, 3]]}', {}),
        (gzip.compress(b'{"instances": [[1, 2, 3]]}', mtime=0), {"coding": b"gzip"}),
        (b'{"instances": [[1, 2, 3]], "unit": "\\"entities\\""}', {}),
    ],
)
def test_what_names_no_entities_is_not_looked_up(body: bytes, head: dict[str, Any]) -> None:
    async def scenario(bench: Bench) -> None:
        call = bench.begin(body, **head)
        assert not isinstance(call, EntityRequest)
        assert bench.rows() == [1.0, 2.0, 3.0]
        assert bench.transformer.asked == []

    run(scenario)


@pytest.mark.parametrize(
    ("body", "head", "status", "code"),
    [
        (b'{"entities": {"id": "x"}}', {}, 422, "wrong_type"),
        (b'{"entities": {"id": 1}, "instances": [{"height": 1, "width": "x"}]}', {}, 422, "not_a_number"),
        (b'{"entities": {"id": 1}, "instances": [{"height": 1, "widht": 1}]}', {}, 422, "unknown_feature"),
        (b'{"entities": {"id": 1}, "instances": [{"height": 1}]}', {}, 422, "missing_feature"),
        # What neither the client nor the transformer has is the client's.
        (b'{"entities": {"id": 1}}', {}, 422, "missing_feature"),
        (
            b'{"entities": {"id": 1}, "instances": [{"height": 1, "width": 2}], "version": "v9"}',
            {},
            404,
            "unknown_version",
        ),
        (b"not gzip", {"coding": b"gzip"}, 400, "malformed_body"),
        (b"\x1f\x8b", {"coding": b"gzip"}, 400, "malformed_body"),
        (b"x" * 100 + b'"entities"', {}, 400, "malformed_body"),
    ],
)
def test_what_is_wrong_is_told_once(body: bytes, head: dict[str, Any], status: int, code: str) -> None:
    async def scenario(bench: Bench) -> None:
        bench.begin(body, **head)
        if bench.exchange.status is None:
            await bench.answered()
        assert (bench.exchange.status, bench.code) == (status, code)

    run(scenario)


def test_what_the_store_lacks_is_the_servers_fault_and_no_versions() -> None:
    async def scenario(bench: Bench) -> None:
        bench.begin(BODY.replace(b"7", b"999"))
        await bench.answered()
        assert (bench.exchange.status, bench.code) == (424, "feature_missing")
        detail = {"row": 0, "feature": "depth", "entity": {"id": 999}}
        assert bench.exchange.json["error"]["detail"] == detail
        bench.observers.tell()
        (failure,) = bench.listener.failures
        assert (failure.fault, failure.version) == (Fault.SERVER, None)

    run(scenario)


def test_a_transformer_that_fails_is_told_as_such_and_when_to_come_again() -> None:
    async def scenario(bench: Bench) -> None:
        bench.begin()
        await until(lambda: bench.transformer.calls)
        bench.transformer.fail(EndpointError("cannot connect"))
        await until(lambda: bench.exchange.status)
        assert (bench.exchange.status, bench.code) == (424, "features_unavailable")
        assert bench.exchange.headers["retry-after"] == "1"

    run(scenario)


def test_a_deadline_counts_from_the_arrival() -> None:
    async def scenario(bench: Bench) -> None:
        bench.begin(deadline_s=0.02)
        await until(lambda: bench.exchange.status)
        assert (bench.exchange.status, bench.code) == (504, "deadline_exceeded")

    run(scenario)


def test_too_many_are_refused_with_503() -> None:
    async def scenario(bench: Bench) -> None:
        bench.begin(json.dumps({"entities": [{"id": 1}, {"id": 2}]}).encode())
        assert (bench.exchange.status, bench.code) == (503, "overloaded")

    run(scenario, max_waiting_entities=1)


def test_a_client_that_leaves_is_answered_no_more() -> None:
    async def scenario(bench: Bench) -> None:
        waiting = bench.begin()
        waiting.cancel()
        await until(lambda: bench.transformer.calls)
        bench.transformer.answer()
        scored = bench.begin()
        await until(lambda: bench.runner.jobs)
        scored.cancel()
        assert bench.runner.jobs[0].cancelled
        assert bench.exchange.status is None

    run(scenario)


def test_the_entity_is_the_unit_where_none_is_named() -> None:
    async def scenario(bench: Bench) -> None:
        for body, head, unit in (
            (BODY, {"id_unit": "of the request"}, "7"),
            (BODY, {"unit": "of the header"}, "of the header"),
            (BODY.replace(b"}]}", b'}], "unit": "of the body"}'), {}, "of the body"),
        ):
            bench.begin(body, **head)
            if not bench.runner.jobs:
                await bench.answered()
            job: Any = bench.runner.jobs.pop()
            assert job.unit == unit

    run(scenario, unit="id")


def test_a_version_that_cannot_be_reached_is_not_blamed_on_features() -> None:
    async def scenario(bench: Bench) -> None:
        bench.begin()
        await bench.answered()
        bench.runner.finish(error=Unreachable(Exception("gone")))
        assert (bench.exchange.status, bench.code) == (503, "not_ready")

    run(scenario)


def ending_body(ending: str, number: int) -> bytes:
    if ending == "wrong":
        return b'{"entities": {"id": "x"}}'
    if ending == "known":
        return BODY
    return BODY.replace(b"7", b"%d" % ((999 if ending == "lacking" else 10) + number))


async def end(bench: Bench, ending: str, number: int) -> None:
    """Have the transformer, and the runner, do their part."""
    if ending in ("wrong", "refused") or (ending == "known" and number):
        return
    await until(lambda: bench.transformer.calls)
    if ending == "failed":
        bench.transformer.fail(EndpointError("cannot connect"))
    else:
        bench.transformer.answer()
    if ending != "left":
        await until(lambda: bench.runner.jobs or bench.exchange.status)


@pytest.mark.parametrize("ending", ["scores", "failed", "known", "wrong", "left", "refused", "lacking"])
def test_nothing_of_a_request_is_left_to_the_garbage_collector(ending: str) -> None:
    async def scenario(bench: Bench) -> None:
        for number in range(20):
            bench.exchange = MemoryExchange()
            begun = bench.begin(ending_body(ending, number), deadline_s=1e-9 if ending == "refused" else None)
            if ending == "left":
                begun.cancel()
            await end(bench, ending, number)
            if bench.runner.jobs:
                bench.runner.finish([0.5])
            del begun
            # The call has a few turns to end in.
            for _ in range(5):
                await asyncio.sleep(0)
        await bench.lookup.close()
        bench.observers.tell()
        bench.listener.heard.clear()

    async def whole() -> None:
        bench = Bench(eject_after_failures=1000)
        with uncollected():
            await scenario(bench)
            assert of_kinds(EntityRequest, Lookup, Call, Prediction) == []

    in_time(whole())
