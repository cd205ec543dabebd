"""The lookup of features, with a transformer that answers when the test says so."""

import asyncio
from collections.abc import Sequence
from math import inf
from typing import Any

import pytest

from configuration.feature_settings import EntityType, FeatureSettings
from runners.errors import DeadlineExceeded, Overloaded
from runners.placements.far_side import CallRefused, EndpointError
from shokado.features.entity_features import Entity, EntityFeatures, features_of
from shokado.features.feature_lookup import FeatureLookup, Lookup, LookupOutcome
from shokado.features.feature_wire import FeatureAnswer, FeatureColumn
from tests.support.clock import HandClock
from tests.support.waiting import eventually, in_time, until

ADDRESS = "http://127.0.0.1:6570"


class HeldTransformer:
    """Keeps calls until the test ends them; each entity's feature is ten times its id."""

    address = ADDRESS

    def __init__(self, feature: str = "ten") -> None:
        self.feature = feature
        self.calls: list[tuple[list[Entity], asyncio.Future[None]]] = []
        self.asked: list[list[Entity]] = []

    async def ask(self, entities: Sequence[Entity]) -> tuple[FeatureAnswer, list[EntityFeatures]]:
        held = asyncio.get_running_loop().create_future()
        self.calls.append((list(entities), held))
        self.asked.append(list(entities))
        await held
        ids = [int(entity.get("id", 0)) for entity in entities]
        answer = FeatureAnswer(
            [FeatureColumn(self.feature, [10 * one for one in ids], [one < 900 for one in ids], [1.0] * len(ids))]
        )
        return answer, features_of(answer, len(entities))

    def answer(self) -> None:
        self.calls.pop(0)[1].set_result(None)

    def fail(self, error: Exception) -> None:
        self.calls.pop(0)[1].set_exception(error)

    async def close(self) -> None: ...


class Bench:
    """A lookup, what it asks, and what became of each request."""

    def __init__(self, **settings: Any) -> None:
        self.clock = HandClock()
        self.transformer = HeldTransformer()
        usual: dict[str, Any] = {"url": ADDRESS, "entities": {"id": EntityType.INTEGER, "text": EntityType.TEXT}}
        # A minute: what is to be late is so by the clock of the loop, in tests that set another time.
        chosen = FeatureSettings.model_validate({**usual, "timeout_ms": 60_000, **settings})
        self.lookup = FeatureLookup(chosen, self.transformer, self.clock, lambda: 61.0)
        self.ended: list[Lookup] = []

    def ask(self, *ids: int, deadline: float = inf) -> Lookup:
        return self.lookup.look_up([{"id": one} for one in ids], deadline, self.ended.append)

    def values(self, lookup: Lookup) -> list[Any]:
        return [None if found is None else found.values_at(0)["ten"] for found in lookup.found]

    def counts(self) -> dict[str, int]:
        return {str(outcome): number for outcome, number in self.lookup.flush().entities.items() if number}


def test_entities_of_many_requests_travel_together_while_the_connections_are_busy() -> None:
    async def scenario() -> None:
        bench = Bench(connections=1)
        first, *others = [bench.ask(number) for number in range(1, 6)]
        await until(lambda: bench.transformer.calls)
        assert bench.transformer.asked == [[{"id": 1}]]
        bench.transformer.answer()
        await until(lambda: len(bench.transformer.asked) == 2)
        assert bench.transformer.asked[1] == [{"id": number} for number in (2, 3, 4, 5)]
        bench.transformer.answer()
        await until(lambda: len(bench.ended) == 5)
        assert [bench.values(one) for one in (first, *others)] == [[10], [20], [30], [40], [50]]
        assert bench.counts() == {"looked_up": 5}

    in_time(scenario())


def test_a_batch_has_no_more_than_so_many_and_one_kind_of_entity() -> None:
    async def scenario() -> None:
        bench = Bench(connections=1, max_batch_entities=2)
        bench.ask(1)
        bench.lookup.look_up([{"text": "a"}, {"id": 2}, {"text": "b"}, {"text": "c"}], inf, bench.ended.append)
        for _ in range(4):
            await until(lambda: bench.transformer.calls)
            bench.transformer.answer()
        await until(lambda: len(bench.ended) == 2)
        wanted = [[{"id": 1}], [{"text": "a"}, {"text": "b"}], [{"id": 2}], [{"text": "c"}]]
        assert bench.transformer.asked == wanted

    in_time(scenario())


def test_nobody_is_asked_for_twice_and_for_a_while_not_again() -> None:
    async def scenario() -> None:
        bench = Bench(connections=1, cache_ttl_s=5)
        one, other = bench.ask(1, 1, 2), bench.ask(2, 1)
        await until(lambda: bench.transformer.calls)
        late = bench.ask(1)
        bench.transformer.answer()
        await until(lambda: len(bench.ended) == 3)
        assert [bench.values(lookup) for lookup in (one, other, late)] == [[10, 10, 20], [20, 10], [10]]
        assert bench.transformer.asked == [[{"id": 1}, {"id": 2}]]
        bench.clock.advance(4)
        assert bench.values(bench.ask(2)) == [20]
        assert len(bench.ended) == 4, "what is known is told at once"
        bench.clock.advance(2)
        bench.ask(2)
        await until(lambda: bench.transformer.calls)
        assert bench.counts() == {"looked_up": 6, "cached": 1}

    in_time(scenario())


def test_long_texts_are_neither_kept_nor_asked_for_together() -> None:
    async def scenario() -> None:
        bench = Bench(connections=1)
        long = "x" * 300
        bench.lookup.look_up([{"text": long}, {"text": long}], inf, bench.ended.append)
        await until(lambda: bench.transformer.calls)
        assert bench.transformer.asked == [[{"text": long}] * 2]
        bench.transformer.answer()
        await until(lambda: bench.ended)
        bench.lookup.look_up([{"text": long}], inf, bench.ended.append)
        await until(lambda: bench.transformer.calls)

    in_time(scenario())


def test_a_request_waits_no_longer_than_it_may() -> None:
    async def scenario() -> None:
        bench = Bench(connections=1, timeout_ms=20)
        lookup = bench.ask(1, 2)
        await until(lambda: bench.ended)
        assert (bench.values(lookup), lookup.error) == ([None, None], None)
        bench.transformer.answer()
        await until(lambda: bench.lookup.names_for(("id",)) is not None)
        assert bench.counts() == {"late": 2}
        # What came too late for it is known now.
        assert bench.values(bench.ask(1)) == [10]

    in_time(scenario())


def test_a_deadline_that_is_sooner_ends_the_request() -> None:
    async def scenario() -> None:
        bench = Bench()
        lookup = bench.ask(1, deadline=bench.clock() + 0.02)
        await until(lambda: bench.ended)
        assert isinstance(lookup.error, DeadlineExceeded)
        with pytest.raises(DeadlineExceeded):
            bench.ask(1, deadline=bench.clock())

    in_time(scenario())


def test_what_nobody_waits_for_any_more_is_not_asked_for() -> None:
    async def scenario() -> None:
        bench = Bench(connections=1)
        bench.ask(1)
        bench.ask(2).cancel()
        shared, gone = bench.ask(3), bench.ask(3)
        gone.cancel()
        for _ in range(2):
            await until(lambda: bench.transformer.calls)
            bench.transformer.answer()
        await until(lambda: len(bench.ended) == 2)
        assert bench.transformer.asked == [[{"id": 1}], [{"id": 3}]]
        assert bench.ended[1] is shared

    in_time(scenario())


def test_the_queue_is_bounded() -> None:
    async def scenario() -> None:
        bench = Bench(connections=1, max_waiting_entities=3)
        bench.ask(1)
        bench.ask(2, 3)
        with pytest.raises(Overloaded):
            bench.ask(4, 5)
        bench.ask(4)
        assert bench.counts() == {"refused": 2}

    in_time(scenario())


def test_a_transformer_that_fails_is_left_alone_and_tried_again() -> None:
    async def scenario() -> None:
        bench = Bench(connections=2, eject_after_failures=2, eject_for_s=1, cache_ttl_s=0)
        for number in (1, 2):
            bench.ask(number)
            await until(lambda: bench.transformer.calls)
            bench.transformer.fail(EndpointError("cannot connect"))
            await until(lambda: len(bench.ended) == number)  # noqa: B023  # awaited at once
        assert [bench.values(lookup) for lookup in bench.ended] == [[None], [None]]
        asked = len(bench.transformer.asked)
        assert bench.values(bench.ask(3)) == [None], "nobody waits for it meanwhile"
        assert len(bench.transformer.asked) == asked
        bench.clock.advance(1)
        bench.ask(4)
        bench.ask(5)
        await until(lambda: bench.transformer.calls)
        await eventually(lambda: True)
        assert len(bench.transformer.calls) == 1, "one call tries it"
        bench.transformer.fail(EndpointError("cannot connect"))
        await until(lambda: len(bench.ended) == 5)
        bench.clock.advance(1)
        bench.ask(6)
        await until(lambda: bench.transformer.calls)
        bench.transformer.answer()
        await until(lambda: len(bench.ended) == 6)
        assert bench.counts() == {"failed": 3, "ejected": 2, "looked_up": 1}
        bench.ask(7)
        bench.ask(8)
        await until(lambda: len(bench.transformer.calls) == 2)

    in_time(scenario())


def test_what_the_transformer_refuses_ejects_it_not() -> None:
    async def scenario() -> None:
        bench = Bench(eject_after_failures=1)
        bench.ask(1)
        await until(lambda: bench.transformer.calls)
        bench.transformer.fail(CallRefused("it answered 400"))
        await until(lambda: bench.ended)
        assert bench.counts() == {"failed": 1}
        bench.ask(2)
        await until(lambda: bench.transformer.calls)

    in_time(scenario())


def test_what_fails_unforeseen_ends_its_requests_as_well(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        bench = Bench()
        lookup = bench.ask(1)
        await until(lambda: bench.transformer.calls)
        bench.transformer.fail(RuntimeError("unforeseen"))
        await until(lambda: bench.ended)
        assert bench.values(lookup) == [None]

    in_time(scenario())
    assert "a lookup failed unforeseen" in caplog.text


def test_ages_of_what_was_found_are_told() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.ask(1, 999)
        await until(lambda: bench.transformer.calls)
        bench.clock.advance(0.25)
        bench.transformer.answer()
        await until(lambda: bench.ended)
        counts = bench.lookup.flush()
        assert counts.ages_s == {"ten": [60.0]}
        assert counts.calls_s == [0.25]
        assert counts.entities[LookupOutcome.LOOKED_UP] == 2

    in_time(scenario())


def test_closing_ends_calls() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.ask(1)
        await until(lambda: bench.transformer.calls)
        await bench.lookup.close()
        assert not bench.ended

    in_time(scenario())
