"""Feedback over a real store: every piece is counted once, and a bad one spoils nothing for the others."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from configuration.settings import Settings
from shokado.experiments.feedback_collector import Feedback, FeedbackCollector, FeedbackStatus, refused
from shokado.experiments.figures import VersionFigures, figures
from shokado.stores.follower import Follower
from shokado.stores.store import StoreUnavailable
from tests.experiments.following import all_known, break_store, following
from tests.experiments.test_joining_feedback import BINARY, HOUR_S, IDS, NOW, made

SETTINGS = Settings.model_validate(
    {"model": "paper", "versions": {"v1": {}}, "environments": {"production": {"active": "v1", "weights": {"v1": 1}}}}
)


@dataclass
class Office:
    """A collector, and the follower behind it."""

    follower: Follower
    collector: FeedbackCollector

    async def statuses(self, *entries: Feedback) -> list[FeedbackStatus]:
        return [ruling.status for ruling in await self.collector.take(entries)]

    async def figures(self) -> VersionFigures:
        return figures(await self.follower.ask(self.follower.store.tallies, 0.0), "v1")


def office(scenario: Callable[[Office], Coroutine[Any, Any, None]], folder: Path) -> None:
    """Run the scenario at a collector that knows version v1."""

    async def run() -> None:
        async with following(folder, SETTINGS) as follower:
            collector = FeedbackCollector(follower, IDS, lambda: {"v1": BINARY}, HOUR_S, all_known, lambda: NOW)
            await scenario(Office(follower, collector))

    asyncio.run(asyncio.wait_for(run(), 60))


def test_feedback_becomes_figures(tmp_path: Path) -> None:
    async def scenario(office: Office) -> None:
        batch = made(BINARY, [0.9, 0.2, 0.8, 0.1], at=NOW - 30)
        taken = await office.statuses(
            Feedback(batch, 0, label=1),
            Feedback(batch, 1, label=1),
            Feedback(batch, 2, label=1, reward=1),
            Feedback(batch, 3, reward=0.5),
        )
        assert taken == [FeedbackStatus.ACCEPTED] * 4
        found = await office.figures()
        assert (found.feedback, found.labels, found.mean_delay_s) == (4, 3, 30)
        assert found.accuracy is not None
        assert found.accuracy.value == pytest.approx(2 / 3)
        assert found.conversion is not None
        assert (found.conversion.value, found.conversion.observations) == (0.75, 2)

    office(scenario, tmp_path)


def test_feedback_counts_once_in_whichever_list_it_comes_again(tmp_path: Path) -> None:
    async def scenario(office: Office) -> None:
        known, other = made(BINARY, [0.9]), made(BINARY, [0.9])
        assert await office.statuses(Feedback(known, label=1), Feedback(known, label=1)) == ["accepted", "duplicate"]
        again = await office.collector.take(
            [Feedback(known, label=0), Feedback(other, label=1), Feedback(known, reward=1)]
        )
        assert [ruling.status for ruling in again] == ["duplicate", "accepted", "duplicate"]
        assert again[0].reason == "feedback for this row of this prediction was counted before"
        assert again[0].settlement is None
        found = await office.figures()
        assert (found.feedback, found.labels, found.conversion) == (2, 2, None)

    office(scenario, tmp_path)


def test_bad_entries_are_named_in_their_place_and_counted_for_all_workers(tmp_path: Path) -> None:
    async def scenario(office: Office) -> None:
        good = made(BINARY, [0.9])
        forged = ("A" if good[-1] != "A" else "B").join([good[:-1], ""])
        entries = [
            Feedback("nonsense", label=1),
            Feedback(good, label=1),
            Feedback(forged, label=1),
            Feedback(made(BINARY, [0.9], at=NOW - HOUR_S - 9), label=1),
            Feedback(good, index=7, label=1),
            Feedback(made(BINARY, [0.9]), label=5),
            Feedback(good, label=1),
            Feedback("nonsense", label=1),
        ]
        taken = await office.statuses(*entries)
        assert taken == [
            FeedbackStatus.MALFORMED,
            FeedbackStatus.ACCEPTED,
            FeedbackStatus.FORGED,
            FeedbackStatus.EXPIRED,
            FeedbackStatus.UNKNOWN,
            FeedbackStatus.INVALID,
            FeedbackStatus.DUPLICATE,
            FeedbackStatus.MALFORMED,
        ]
        counted = refused(await office.follower.ask(office.follower.store.tallies, 0.0))
        assert counted == {
            FeedbackStatus.DUPLICATE: 1,
            FeedbackStatus.MALFORMED: 2,
            FeedbackStatus.FORGED: 1,
            FeedbackStatus.EXPIRED: 1,
            FeedbackStatus.UNKNOWN: 1,
            FeedbackStatus.INVALID: 1,
        }
        assert (await office.figures()).feedback == 1

    office(scenario, tmp_path)


def test_a_long_list_is_taken_in_order(tmp_path: Path) -> None:
    async def scenario(office: Office) -> None:
        entries = [Feedback(made(BINARY, [0.9]) if number % 3 else "nonsense", label=1) for number in range(300)]
        taken = await office.statuses(*entries)
        assert taken == [FeedbackStatus.ACCEPTED if number % 3 else FeedbackStatus.MALFORMED for number in range(300)]
        assert (await office.figures()).labels == 200

    office(scenario, tmp_path)


def test_an_empty_list_needs_no_store(tmp_path: Path) -> None:
    async def scenario(office: Office) -> None:
        break_store(tmp_path)
        assert await office.collector.take([]) == []

    office(scenario, tmp_path)


def test_predictions_are_not_held_up_by_a_long_list(tmp_path: Path) -> None:
    async def scenario(office: Office) -> None:
        turns = 0

        async def serve() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        serving = asyncio.create_task(serve())
        await office.collector.take([Feedback("nonsense", label=1)] * 6400)
        serving.cancel()
        assert turns >= 100

    office(scenario, tmp_path)


def test_without_the_store_nothing_is_accepted(tmp_path: Path) -> None:
    async def scenario(office: Office) -> None:
        break_store(tmp_path)
        with pytest.raises(StoreUnavailable):
            await office.collector.take([Feedback("nonsense", label=1), Feedback(made(BINARY, [0.9]), label=1)])

    office(scenario, tmp_path)


def test_without_the_store_what_is_wrong_is_said_all_the_same(tmp_path: Path) -> None:
    async def scenario(office: Office) -> None:
        break_store(tmp_path)
        assert await office.statuses(Feedback("nonsense", label=1)) == [FeedbackStatus.MALFORMED]

    office(scenario, tmp_path)
