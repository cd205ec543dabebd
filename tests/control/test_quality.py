"""How versions did over time, as the store's tallies tell it to whoever asks."""

import time
from typing import Any

import pytest

from shokado.stores.store import Tally
from tests.control.site import Site
from tests.support.problems import code_of

PATH = "/ab-test/quality"


def add(site: Site, minutes_ago: int, version: str, environment: str = "production", **counts: float) -> None:
    """What workers would have counted then."""
    follower = site.workers[0].follower
    tallies = {Tally(version, environment, name): number for name, number in counts.items()}
    site.run(follower.ask(follower.store.add, tallies, time.time() - 60 * minutes_ago))


def test_each_version_has_a_curve_that_ends_now(site: Site) -> None:
    add(site, 30, "v1", class_labels=10, correct=9)
    add(site, 0, "v1", class_labels=10, correct=5)
    add(site, 0, "v2", class_labels=4, correct=4)
    content = site.get(PATH, params={"hours": 1, "points": 6})
    assert (content["environment"], content["length_s"], content["so_far"]) == ("production", 600, False)
    assert content["at"][-2] <= time.time() <= content["at"][-1] + 5
    curve = content["versions"]["v1"]["accuracy"]
    assert len(curve["value"]) == len(curve["low"]) == len(curve["high"]) == len(content["at"])
    assert [value for value in curve["value"] if value is not None] == [0.9, 0.5]
    assert sum(curve["observations"]) == 20
    assert sum(content["versions"]["v2"]["accuracy"]["observations"]) == 4
    assert content["versions"]["v1"]["conversion"] is None
    so_far = site.get(PATH, params={"hours": 1, "points": 6, "so_far": True})["versions"]["v1"]["accuracy"]
    assert so_far["value"][-1] == 0.7
    narrower = [so_far["high"][index] - so_far["low"][index] for index in (-1, -3)]
    assert narrower[0] < narrower[1]


def test_environments_have_their_own_feedback(site: Site) -> None:
    add(site, 0, "v2", "staging", rewards=2, reward_sum=1)
    assert site.get(PATH)["versions"]["v2"]["conversion"] is None
    found = site.get(PATH, params={"environment": "staging"})["versions"]["v2"]["conversion"]
    assert [value for value in found["value"] if value is not None] == [0.5]


def test_nothing_is_told_beyond_the_window_of_feedback(site: Site) -> None:
    add(site, 24 * 60 + 45, "v1", class_labels=10, correct=9)
    content = site.get(PATH, params={"hours": 1000})
    assert content["at"][0] > time.time() - 25 * 3600
    assert content["versions"]["v1"]["accuracy"] is None


@pytest.mark.parametrize("query", [{"hours": 0}, {"hours": "nan"}, {"points": 0}, {"points": 501}, {"so_far": "soon"}])
def test_what_is_no_window_is_refused(site: Site, query: dict[str, Any]) -> None:
    answer = site.ask("GET", PATH, params=query)
    assert (answer.status_code, code_of(answer)) == (422, "invalid")


def test_without_the_store_nothing_is_told(site: Site) -> None:
    site.break_store()
    answer = site.ask("GET", PATH)
    assert (answer.status_code, code_of(answer)) == (503, "store_unavailable")
