"""The preview of a change by recent traffic: what it would have done to the requests of the last minutes."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from shokado.dispatch.reason import Reason
from shokado.dispatch.request import Origin, Prediction
from tests.control.site import Site
from tests.support.problems import code_of

PATH = "/v1/traffic-split/preview/recent"
SPLIT = "/v1/traffic-split"
UNITS = [f"user-{number}" for number in range(400)]


def answer(site: Site, units: Sequence[str], reason: Reason = Reason.STICKY, worker: int = 0) -> None:
    """Have a worker's observer hear of requests, as if they had been answered in production."""
    one = site.workers[worker]
    origin = Origin("v1", "production", 1, one.cards["v1"])
    recent = one.parts.recent_units
    assert recent is not None
    recent.answered("v1", [Prediction(b"", 1, print, origin=origin, reason=reason, unit=unit) for unit in units])
    site.run(recent.share())


def previewed(site: Site, **body: Any) -> Any:
    answer = site.post(PATH, body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def versions_of(site: Site, units: Sequence[str]) -> dict[str, str]:
    return {unit: site.get(f"{SPLIT}/explain?unit={unit}")["version"] for unit in units}


def test_who_moves_are_those_who_get_another_version_after_the_change(empty_site: Site) -> None:
    site = empty_site
    for _ in range(2):
        site.join()
    site.post(SPLIT, {"weights": {"v1": 90, "v2": 10}, "strategy": "hash"})
    before = versions_of(site, UNITS)
    answer(site, UNITS[:150])
    answer(site, UNITS[150:], worker=1)
    answer(site, UNITS[:100], worker=1)
    told = previewed(site, weights={"v1": 50, "v2": 50})
    assert (told["requests"], told["sampled"], told["units"], told["workers"]) == (500, 500, 400, 2)
    assert (told["pinned"], told["dealt_anew"], told["generation"]) == (0, False, 2)
    assert 0 <= told["seconds"] < 60
    site.post(SPLIT, {"weights": {"v1": 50, "v2": 50}})
    after = versions_of(site, UNITS)
    asked = UNITS + UNITS[:100]
    moved = [unit for unit in asked if before[unit] != after[unit]]
    (move,) = told["moves"]
    assert (move["before"], move["after"], move["units"]) == ("v1", "v2", len(set(moved)))
    assert move["share"] == told["moved"]["value"] == pytest.approx(len(moved) / 500)
    assert told["moved"]["low"] < told["moved"]["value"] < told["moved"]["high"]
    for side, versions in (("traffic_before", before), ("traffic_after", after)):
        counted = Counter(versions[unit] for unit in asked)
        assert told[side] == {version: pytest.approx(number / 500) for version, number in sorted(counted.items())}


def test_one_who_asks_much_counts_as_much(site: Site) -> None:
    site.post(SPLIT, {"weights": {"v1": 100, "v2": 0}, "strategy": "hash"})
    site.post(SPLIT, {"weights": {"v1": 50, "v2": 50}})
    (mover, *_) = [unit for unit, version in versions_of(site, UNITS[:50]).items() if version == "v2"]
    (stayer, *_) = [unit for unit, version in versions_of(site, UNITS[:50]).items() if version == "v1"]
    site.post(SPLIT, {"weights": {"v1": 100, "v2": 0}})
    answer(site, [mover] * 30 + [stayer] * 10)
    told = previewed(site, weights={"v1": 50, "v2": 50})
    assert (told["moved"]["value"], told["traffic_after"], told["units"]) == (0.75, {"v1": 0.25, "v2": 0.75}, 2)


def test_requests_that_name_a_version_stay_and_others_follow_the_active_one(site: Site) -> None:
    site.post(SPLIT, {"weights": {"v1": 1}, "strategy": "hash"})
    answer(site, UNITS[:10], Reason.PINNED)
    answer(site, UNITS[:30], Reason.ACTIVE)
    told = previewed(site, active="v3")
    assert (told["pinned"], told["moved"]["value"]) == (0.25, 0.75)
    assert told["moves"] == [{"before": "v1", "after": "v3", "share": 0.75, "units": 30}]
    assert previewed(site, weights={"v1": 0, "v2": 1})["moved"]["value"] == 0


def test_a_new_salt_deals_all_units_out_anew(site: Site) -> None:
    site.post(SPLIT, {"weights": {"v1": 50, "v2": 50}, "strategy": "hash"})
    answer(site, UNITS)
    told = previewed(site, salt="autumn")
    assert told["dealt_anew"] is True
    # Half of the units of either side: five deviations of 400 draws.
    assert told["moved"]["value"] == pytest.approx(0.5, abs=0.125)


def test_where_a_unit_does_not_decide_that_is_said(site: Site) -> None:
    answer(site, UNITS[:40])
    told = previewed(site, weights={"v1": 50, "v2": 50}, strategy="random")
    assert (told["moved"], told["moves"]) == (None, [])
    assert told["traffic_before"] == {"v1": pytest.approx(0.8), "v2": pytest.approx(0.2)}
    assert told["traffic_after"] == {"v1": pytest.approx(0.5), "v2": pytest.approx(0.5)}
    off = previewed(site, strategy="hash")
    assert off["moved"] is None
    assert sum(off["traffic_after"].values()) == pytest.approx(1)


def test_where_nobody_asked_nothing_is_said_of_who_moves(site: Site) -> None:
    told = previewed(site, enabled=False)
    assert (told["requests"], told["sampled"], told["workers"], told["seconds"]) == (0, 0, 0, 0)
    assert (told["moved"], told["moves"], told["traffic_after"]) == (None, [], {})
    assert told["shares_after"] == {"v1": 1.0}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"weights": {"v9": 1}}, "unknown_version"),
        ({}, "nothing_to_change"),
        ({"weights": {"v1": 1}, "units": ["user-1"]}, "unknown_field"),
    ],
)
def test_a_change_that_would_be_refused_is_refused_here(site: Site, body: Any, code: str) -> None:
    assert code_of(site.post(PATH, body)) == code


def test_who_is_outside_of_a_layer_stays_until_the_split_is_everybodys(site: Site) -> None:
    site.post(SPLIT, {"weights": {"v1": 50, "v2": 50}, "strategy": "hash"})
    plan = {"metric": "reward", "smallest_effect": 0.1, "label_delay_s": 60}
    begun = site.post("/v1/experiments", plan | {"layer": {"name": "checkout", "from": 0, "to": 0.25}})
    assert begun.status_code == 201, begun.text
    before = versions_of(site, UNITS)
    explained = {unit: site.get(f"{SPLIT}/explain?unit={unit}") for unit in UNITS}
    inside = {unit for unit, told in explained.items() if told["layer"]["inside"]}
    answer(site, UNITS)
    all_of_it = {"weights": {"v1": 0, "v2": 100}}
    told = previewed(site, **all_of_it)
    moved = [unit for unit in inside if before[unit] == "v1"]
    assert 0 < len(moved) < len(inside) < 200
    assert told["moved"]["value"] == pytest.approx(len(moved) / len(UNITS))
    assert told["traffic_before"]["v2"] == pytest.approx((len(inside) - len(moved)) / len(UNITS))
    assert told["traffic_after"] == {"v1": pytest.approx(1 - len(inside) / 400), "v2": pytest.approx(len(inside) / 400)}
    assert told["shares_before"] == {"v1": 0.875, "v2": 0.125}
    assert told["shares_after"] == {"v1": 0.75, "v2": 0.25}
    some = UNITS[:200]
    named = site.post(f"{SPLIT}/preview", all_of_it | {"units": some}).json()
    assert (named["moved"], named["shares_after"]) == (len(set(moved) & set(some)), told["shares_after"])
    refused = site.post(PATH, {"strategy": "random"})
    assert (refused.status_code, code_of(refused)) == (409, "layer_without_units")

    assert site.post(f"/v1/experiments/{begun.json()['id']}/stop", {}).status_code == 200
    assert versions_of(site, UNITS) == before, "nobody moves"
    told = previewed(site, **all_of_it)
    assert told["moved"]["value"] == pytest.approx(sum(version == "v1" for version in before.values()) / 400)
    assert told["traffic_after"] == {"v2": pytest.approx(1)}
    named = site.post(f"{SPLIT}/preview", all_of_it | {"units": some}).json()
    assert named["shares_after"] == {"v2": 1.0}
    assert named["moved"] == sum(before[unit] == "v1" for unit in some)
    site.post(SPLIT, all_of_it)
    assert set(versions_of(site, UNITS[:40]).values()) == {"v2"}
