"""Recent units: bounded, of every request alike, of each environment, known to all workers, and without a name."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from configuration.settings import Strategy
from shokado.dispatch.layer import Layer
from shokado.dispatch.reason import Reason
from shokado.dispatch.request import Origin, Prediction
from shokado.dispatch.state import Environment
from shokado.monitoring.recent_units import PERIOD_S, SAMPLE_SIZE, DecidedBy, RecentUnits
from tests.support.cards import make_card
from tests.support.waiting import in_time

CARD = make_card()


def environment(name: str = "production", salt: str = "s", *, enabled: bool = True) -> Environment:
    return Environment(name, "v1", {"v1": 80, "v2": 20}, Strategy.HASH, enabled, salt)


def answered(units: Sequence[str], name: str = "production", reason: Reason = Reason.STICKY) -> list[Prediction]:
    origin = Origin("v1", name, 1, CARD)
    return [Prediction(b"", 1, lambda _: None, origin=origin, reason=reason, unit=unit) for unit in units]


class Server:
    """Workers that share a folder and a routing, in which time is what a test says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = 1000.0
        self.environments: Mapping[str, Environment] = {name: environment(name) for name in ("production", "staging")}

    def worker(self, name: str = "a", seed: int = 1) -> RecentUnits:
        draw = random.Random(seed).random
        return RecentUnits(lambda: self.environments, self.folder, name, lambda: self.now, draw)


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path)


def test_what_all_workers_answered_is_found_by_each_of_them(server: Server) -> None:
    async def scenario() -> None:
        one, other = server.worker("a"), server.worker("b")
        one.answered("v1", answered(["user-1", "user-2"]))
        other.answered("v1", answered(["user-3"]))
        await one.share()
        await other.share()
        for worker in (one, other):
            found = await worker.recent(server.environments["production"])
            numbers = sorted(number for of_worker in found for told in of_worker for number in told.units.tolist())
            number_of = server.environments["production"].rendezvous.number_of
            assert numbers == sorted(number_of(f"user-{number}") for number in (1, 2, 3))
            assert sum(told.answered for of_worker in found for told in of_worker) == 3
        assert await one.recent(server.environments["staging"]) == []

    in_time(scenario())


def test_no_name_of_a_unit_is_kept(server: Server) -> None:
    async def scenario() -> None:
        worker = server.worker()
        worker.answered("v1", answered(["somebody@example.org"]))
        await worker.share()
        (path,) = server.folder.iterdir()
        assert b"somebody" not in path.read_bytes()
        assert path.stat().st_mode & 0o077 == 0
        (told,) = worker._told()
        assert len(told.numbers) == 8

    in_time(scenario())


@pytest.mark.parametrize("lumps", [[1] * 3000, [700, 2300], [SAMPLE_SIZE, 2000], [128] * 24])
def test_a_sample_is_bounded_and_has_every_request_alike(server: Server, lumps: list[int]) -> None:
    """By the first half of the requests: their part of the sample is a half within five deviations."""
    worker = server.worker(seed=5)
    total, number = sum(lumps), 0
    for lump in lumps:
        worker.answered("v1", answered([f"u{index}" for index in range(number, number + lump)]))
        number += lump
    (told,) = worker._told()
    assert (told.answered, len(told.units), len(told.decided)) == (total, SAMPLE_SIZE, SAMPLE_SIZE)
    number_of = server.environments["production"].rendezvous.number_of
    early = {number_of(f"u{index}") for index in range(total // 2)}
    share = np.mean([one in early for one in told.units.tolist()])
    assert abs(share - 0.5) < 5 * (0.25 / SAMPLE_SIZE) ** 0.5


def test_environments_are_sampled_apart_even_when_they_are_told_together(server: Server) -> None:
    worker = server.worker()
    both = answered([f"u{number}" for number in range(5000)]) + answered(["rare"], "staging")
    worker.answered("v1", both)
    worker.answered("v1", answered(["x"], "gone"))
    told = {one.environment: one for one in worker._told()}
    assert told.keys() == {"production", "staging"}
    assert (told["staging"].answered, len(told["staging"].units)) == (1, 1)
    assert (told["production"].answered, len(told["production"].units)) == (5000, SAMPLE_SIZE)


def test_who_decided_is_kept(server: Server) -> None:
    worker = server.worker()
    for reason in (Reason.PINNED, Reason.ACTIVE, Reason.STICKY, Reason.SPLIT, Reason.FALLBACK):
        worker.answered("v1", answered(["u"], reason=reason))
    (told,) = worker._told()
    assert list(told.decided) == [DecidedBy.CLIENT, DecidedBy.ROUTE, *[DecidedBy.SPLIT] * 3]
    server.environments = {"production": environment(salt="off", enabled=False)}
    worker.answered("v1", answered(["u"], reason=Reason.ACTIVE))
    (told,) = worker._told()
    assert list(told.decided) == [DecidedBy.SPLIT], "it would be split if the split were on"


def test_units_of_another_salt_are_forgotten(server: Server) -> None:
    async def scenario() -> None:
        one, other = server.worker("a"), server.worker("b")
        one.answered("v1", answered(["u"]))
        await one.share()
        server.environments = {"production": environment(salt="autumn")}
        other.answered("v1", answered(["u"]))
        found = await other.recent(server.environments["production"])
        assert [[told.salt for told in of_worker] for of_worker in found] == [["autumn"]]
        one.answered("v1", answered(["u"]))
        assert [told.salt for told in one._told()] == ["autumn"]

    in_time(scenario())


def test_what_is_told_reaches_two_periods_back(server: Server) -> None:
    async def scenario() -> None:
        worker = server.worker()
        recent: list[int] = []
        for number in range(4):
            worker.answered("v1", answered([f"u{number}"] * (number + 1)))
            found = await worker.recent(server.environments["production"])
            recent.append(sum(told.answered for of_worker in found for told in of_worker))
            server.now += PERIOD_S
            await worker.share()
        assert recent == [1, 3, 5, 7]
        server.now += PERIOD_S
        assert await worker.recent(server.environments["production"]) == []

    in_time(scenario())


def test_a_worker_that_has_ended_is_heard_until_its_requests_are_old(server: Server) -> None:
    async def scenario() -> None:
        ended, worker = server.worker("a"), server.worker("b")
        ended.answered("v1", answered(["u"]))
        await ended.share()
        assert len(await worker.recent(server.environments["production"])) == 1
        server.now += 2 * PERIOD_S + 10
        assert await worker.recent(server.environments["production"]) == []

    in_time(scenario())


def test_a_folder_that_cannot_be_written_costs_nothing_but_what_others_know(server: Server) -> None:
    async def scenario() -> None:
        worker = server.worker()
        worker.answered("v1", answered(["u"]))
        server.folder.rmdir()
        await worker.share()
        (found,) = await worker.recent(server.environments["production"])
        assert found[0].answered == 1

    in_time(scenario())


def test_who_is_outside_of_a_layer_is_kept_and_samples_begin_with_it(server: Server) -> None:
    async def scenario() -> None:
        worker = server.worker()
        units = [f"user-{number}" for number in range(40)]
        worker.answered("v1", answered(units))
        layer = Layer("checkout", 0.0, 0.5, "v1")
        production = replace(environment(), layer=layer)
        server.environments = {**server.environments, "production": production}
        assert await worker.recent(production) == [], "of those before nobody knows whether they are inside"
        worker.answered("v1", [*answered(units), *answered(units, reason=Reason.FALLBACK)])
        await worker.share()
        (own,) = await server.worker("b").recent(production)
        (told,) = own
        inside = [DecidedBy.SPLIT if layer.has(unit) else DecidedBy.LAYER for unit in units]
        assert list(told.decided) == inside * 2
        assert set(inside) == {DecidedBy.SPLIT, DecidedBy.LAYER}
        assert await worker.recent(environment()) == []

    in_time(scenario())
