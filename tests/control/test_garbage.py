"""What changes, loads and control requests leave behind: nothing for a collector that hardly ever runs."""

import asyncio
from dataclasses import replace

import pytest

from runners.batching.batcher import Batcher
from runners.runner import Runner
from shokado.dispatch.change import with_candidate, with_load, with_unloaded
from shokado.dispatch.rendezvous import Rendezvous
from shokado.dispatch.state import Environment, Load, RoutingState
from shokado.worker.versions.fleet import Slot
from tests.control.site import Site
from tests.support.garbage import of_kinds, uncollected

SPLIT = "/v1/traffic-split"
TIMES = 300
FEW = 10
"""Values that a worker holds beside the newest: those of the entry that it reports on, and the like."""


def test_nothing_of_earlier_splits_is_left_to_the_garbage_collector(site: Site) -> None:
    """Each has a table of thousands of units."""
    dispatcher = site.workers[0].dispatcher
    site.post(SPLIT, {"weights": {"v1": 50, "v2": 50}, "strategy": "hash"}).raise_for_status()
    with uncollected():
        kinds = (Rendezvous, Environment, RoutingState)
        before = len(of_kinds(*kinds))
        for number in range(TIMES):
            site.post(SPLIT, {"v1": number, "v2": TIMES - number}).raise_for_status()
            deal = dispatcher.state.environments["production"].deal
            assert deal is not None
            assert deal(f"user-{number}").version in ("v1", "v2")
        assert len(of_kinds(*kinds)) <= before + FEW


@pytest.mark.parametrize(
    "body", [{"v9": 1, "v1": 1}, {"v1": -1, "v2": 1}, {"weights": {"v1": 1, "v2": 1}, "environment": "moon"}]
)
def test_nothing_of_a_refused_change_is_left_to_the_garbage_collector(site: Site, body: object) -> None:
    site.post(SPLIT, body)
    with uncollected():
        kinds = (Rendezvous, Environment, RoutingState)
        before = len(of_kinds(*kinds))
        for _ in range(30):
            assert site.post(SPLIT, body).is_client_error
        assert len(of_kinds(*kinds)) <= before + FEW


@pytest.mark.slow
def test_nothing_of_a_version_that_came_and_went_is_left_to_the_garbage_collector(site: Site) -> None:
    """Above all not its engine."""
    worker = site.workers[0]
    fleet, state = worker.fleet, worker.follower.state
    assert state is not None
    artefact = fleet.artefacts["v3"]
    load = Load(artefact.tag, artefact.digest, artefact.tag)

    async def until(version_state: str) -> None:
        while fleet.versions()["v3"].state != version_state:
            await asyncio.sleep(0)

    async def come_and_go(state: RoutingState) -> RoutingState:
        fleet.adopt(state := with_unloaded(state, "v3", load))
        await until("unloaded")
        fleet.adopt(state := with_candidate(state, "v3", replace(load, expires_at=1e12)))
        while fleet.candidates()["v3"].state != "ready":
            await asyncio.sleep(0)
        fleet.adopt(state := with_load(state, "v3"))
        await until("ready")
        return state

    state = site.run(come_and_go(state))
    with uncollected():
        kinds = (Slot, Runner, Batcher, RoutingState, asyncio.Task)
        before = len(of_kinds(*kinds))
        for _ in range(TIMES):
            state = site.run(come_and_go(state))
        assert len(of_kinds(*kinds)) <= before + FEW
