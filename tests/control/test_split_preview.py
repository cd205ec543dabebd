"""The preview of a change tells what the change then does."""

from typing import Any

import pytest

from tests.control.site import Site
from tests.support.problems import code_of

SPLIT = "/v1/traffic-split"
UNITS = [f"user-{number}" for number in range(300)]


def previewed(site: Site, **body: Any) -> dict[str, Any]:
    answer = site.post(f"{SPLIT}/preview", body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def versions_of(site: Site, units: list[str]) -> dict[str, str]:
    return {unit: site.get(f"{SPLIT}/explain", params={"unit": unit})["version"] for unit in units}


def test_who_is_said_to_move_moves_and_nobody_else(site: Site) -> None:
    site.post(SPLIT, {"weights": {"v1": 90, "v2": 10}, "strategy": "hash"})
    before = versions_of(site, UNITS)
    told = previewed(site, weights={"v1": 50, "v2": 50}, units=UNITS)
    assert (told["units"], told["made_up"], told["generation"]) == (300, False, 2)
    assert site.get(SPLIT)["generation"] == 2, "nothing was changed"
    site.post(SPLIT, {"weights": {"v1": 50, "v2": 50}})
    after = versions_of(site, UNITS)
    moved = [unit for unit in UNITS if before[unit] != after[unit]]
    assert told["moved"] == len(moved)
    (move,) = told["moves"]
    assert (move["before"], move["after"], move["units"]) == ("v1", "v2", len(moved))
    assert move["examples"] == moved[:5]
    assert move["share"] == len(moved) / 300
    stay = [after[unit] for unit in UNITS if before[unit] == after[unit]]
    assert told["stay"] == {version: stay.count(version) for version in sorted(set(stay))}


def test_all_who_move_are_named_where_so_many_are_wanted(site: Site) -> None:
    site.post(SPLIT, {"weights": {"v1": 1}, "strategy": "hash"})
    told = previewed(site, weights={"v2": 1}, units=UNITS, max_examples=1000)
    assert told["moves"] == [{"before": "v1", "after": "v2", "units": 300, "share": 1.0, "examples": UNITS}]
    assert told["stay"] == {}
    assert previewed(site, weights={"v2": 1}, units=UNITS, max_examples=0)["moves"][0]["examples"] == []


def test_without_units_a_sample_tells_how_many_move(site: Site) -> None:
    site.post(SPLIT, {"weights": {"v1": 100, "v2": 0}, "strategy": "hash"})
    told = previewed(site, weights={"v1": 75, "v2": 25})
    assert (told["units"], told["made_up"]) == (1000, True)
    # Four standard errors of 1,000 hashed units.
    assert told["moved"] == pytest.approx(250, abs=55)
    assert told["shares_before"] == {"v1": 1.0}
    assert told["shares_after"] == {"v1": 0.75, "v2": 0.25}


def test_where_a_unit_does_not_decide_that_is_said(site: Site) -> None:
    told = previewed(site, weights={"v1": 50, "v2": 50}, strategy="random")
    assert (told["moved"], told["moves"], told["stay"]) == (None, [], None)
    assert told["shares_after"] == {"v1": 0.5, "v2": 0.5}


def test_a_split_that_is_switched_off_moves_everybody_to_the_active_version(site: Site) -> None:
    site.post(SPLIT, {"weights": {"v2": 1, "v3": 1}, "strategy": "hash"})
    told = previewed(site, enabled=False, units=UNITS)
    assert (told["moved"], told["shares_after"]) == (300, {"v1": 1.0})
    assert {move["before"] for move in told["moves"]} == {"v2", "v3"}


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"weights": {"v9": 1}}, "unknown_version"),
        ({"weights": {"v1": -1}}, "invalid_weight"),
        ({}, "nothing_to_change"),
        ({"weights": {"v1": 1}, "units": []}, "invalid"),
        ({"weights": {"v1": 1}, "units": [""]}, "invalid"),
        ({"weights": {"v1": 1}, "unit": "u"}, "unknown_field"),
    ],
)
def test_a_change_that_would_be_refused_is_refused_here(site: Site, body: Any, code: str) -> None:
    assert code_of(site.post(f"{SPLIT}/preview", body)) == code
