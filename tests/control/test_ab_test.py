"""A/B tests in their other dialect: a split of two by ratio, and how the versions do."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from shokado.stores.store import Tally
from tests.control.site import Site, open_site, settings
from tests.support.problems import code_of, message_of
from tests.transports.predictions import prediction

CONFIGURE = "/ab-test/configure"
STATUS = "/ab-test/status"
SPLIT = "/v1/traffic-split"


def test_the_ratio_is_the_part_of_the_first_model(site: Site) -> None:
    body = {"enabled": True, "split_ratio": 0.7, "models": ["v2", "a"], "strategy": "hash-based", "why": "try"}
    answer = site.post(CONFIGURE, body, {"X-Actor": "ann"})
    assert (answer.status_code, answer.headers["etag"]) == (200, '"2"')
    content = answer.json()
    assert content == site.get(SPLIT)
    assert content["shares"] == pytest.approx({"v2": 0.7, "v1": 0.3})
    assert content["percent"] == {"v2": 70, "v1": 30}
    assert [content[name] for name in ("strategy", "enabled", "by", "why")] == ["hash", True, "ann", "try"]


@pytest.mark.parametrize(
    ("body", "shares"),
    [
        ({"models": ["v1", "v3"]}, {"v1": 0.5, "v3": 0.5}),
        ({"split_ratio": 0.25}, {"v1": 0.25, "v2": 0.75}),
        ({"split_ratio": 1}, {"v1": 1}),
        ({"split_ratio": 0, "models": ["v1", "v2"]}, {"v2": 1}),
        ({"enabled": False}, {"v1": 0.8, "v2": 0.2}),
        ({"strategy": "weighted"}, {"v1": 0.8, "v2": 0.2}),
    ],
)
def test_what_is_left_out_stays_or_is_halved(site: Site, body: dict[str, Any], shares: dict[str, float]) -> None:
    assert site.post(CONFIGURE, body).json()["shares"] == pytest.approx(shares)


def test_an_environment_is_configured_by_itself(site: Site) -> None:
    site.post(CONFIGURE, {"environment": "staging", "models": ["v1", "v3"]})
    assert site.get(f"{SPLIT}?environment=staging")["shares"] == {"v1": 0.5, "v3": 0.5}
    assert site.get(SPLIT)["shares"] == {"v1": 0.8, "v2": 0.2}


@pytest.mark.parametrize(
    ("body", "status", "code", "says"),
    [
        ({}, 422, "nothing_to_change", "nothing"),
        ({"split_ratio": 1.5}, 422, "invalid", "split_ratio"),
        ({"split_ratio": -0.1}, 422, "invalid", "split_ratio"),
        ({"split_ratio": "0.5"}, 422, "invalid", "split_ratio"),
        ({"models": ["v1"]}, 422, "invalid", "models"),
        ({"models": ["v1", "v2", "v3"]}, 422, "invalid", "models"),
        ({"models": ["v1", "a"]}, 422, "repeated_version", "same version"),
        ({"models": ["v1", "v9"]}, 404, "unknown_version", "v9"),
        ({"split_ratio": 0.5, "environment": "staging"}, 422, "models_missing", "staging"),
        ({"split_ratio": 0.5, "environment": "moon"}, 404, "unknown_environment", "moon"),
        ({"strategy": "luck"}, 422, "invalid", "strategy"),
        ({"ratio": 0.5}, 422, "unknown_field", "ratio"),
    ],
)
def test_what_cannot_be_configured_is_refused(
    site: Site, body: dict[str, Any], status: int, code: str, says: str
) -> None:
    answer = site.post(CONFIGURE, body)
    assert (answer.status_code, code_of(answer)) == (status, code), answer.text
    assert says in message_of(answer)
    assert site.get(SPLIT)["generation"] == 1


def test_a_ratio_that_is_no_number_is_refused(site: Site) -> None:
    answer = site.ask("POST", CONFIGURE, content=b'{"split_ratio": NaN}', headers={"content-type": "application/json"})
    assert (answer.status_code, code_of(answer)) == (422, "invalid")


def test_configuring_honours_if_match(site: Site) -> None:
    assert site.post(CONFIGURE, {"enabled": False}, {"If-Match": '"7"'}).status_code == 412


def add(site: Site, version: str, environment: str = "", **counts: float) -> None:
    """What workers would have counted just now."""
    follower = site.workers[0].follower
    tallies = {Tally(version, environment, name): number for name, number in counts.items()}
    site.run(follower.ask(follower.store.add, tallies, time.time()))


def test_the_status_tells_traffic_and_feedback_by_version(site: Site) -> None:
    add(site, "v1", requests=30, rows=40, on_time=29, failed=2)
    add(site, "v2", requests=10, rows=10)
    worker = site.workers[0]
    sent = [
        {"prediction_id": worker.ids.make(prediction(worker.cards["v1"], [0.9])), "label": label, "reward": 1}
        for label in (1, 1, 0, 1)
    ]
    assert site.post("/v1/feedback", sent).json()["accepted"] == 4
    content = site.get(STATUS)
    assert [content[name] for name in ("environment", "enabled", "strategy", "active", "generation")] == [
        "production", True, "random", "v1", 1,
    ]  # fmt: skip
    v1, v2 = content["versions"]["v1"], content["versions"]["v2"]
    assert (v1["share"], v1["requests"], v1["traffic"], v1["rows"], v1["errors"]) == (0.8, 30, 0.75, 40, 2)
    assert (v2["share"], v2["traffic"], v2["accuracy"], v2["conversion"]) == (0.2, 0.25, None, None)
    assert (v1["accuracy"]["value"], v1["accuracy"]["observations"]) == (0.75, 4)
    assert 0 < v1["accuracy"]["low"] < 0.75 < v1["accuracy"]["high"] < 1
    assert v1["conversion"]["value"] == 1
    assert (v1["labels"], v1["label_coverage"]) == (4, 0.1)
    assert v1["mean_delay_s"] >= 0
    assert v1["shadow"] is None
    assert site.get(f"{STATUS}?environment=staging")["versions"]["v2"]["feedback"] == 0


def test_the_status_tells_what_was_counted_since_it_was_asked_last(site: Site) -> None:
    for requests in range(1, 4):
        add(site, "v1", requests=1)
        add(site, "v1", "production", class_labels=2, correct=1)
        told = site.get(STATUS)["versions"]["v1"]
        assert (told["requests"], told["labels"], told["accuracy"]["value"]) == (requests, 2 * requests, 0.5)
        assert site.get("/v1/metrics/v1")["quality"]["labels"] == 2 * requests


def test_the_status_tells_how_a_shadow_compares(site: Site) -> None:
    site.post(SPLIT, {"shadow": "v3"})
    add(
        site, "v3", "production", shadow_rows=50, shadow_disagreements=5, shadow_difference_sum=1,
        shadow_dropped_rows=7, shadow_skipped_rows=2,
    )  # fmt: skip
    content = site.get(STATUS)
    assert content["shadow"] == "v3"
    assert content["versions"]["v3"]["shadow"] == {
        "rows": 50, "agreement": 0.9, "mean_difference": 0.02, "dropped_rows": 7, "skipped_rows": 2,
    }  # fmt: skip
    assert content["versions"]["v3"]["share"] == 0


def test_a_shadow_whose_copies_were_all_dropped_agrees_with_nothing(site: Site) -> None:
    site.post(SPLIT, {"shadow": "v3"})
    add(site, "v3", "production", shadow_dropped_rows=7)
    assert site.get(STATUS)["versions"]["v3"]["shadow"] == {
        "rows": 0, "agreement": None, "mean_difference": None, "dropped_rows": 7, "skipped_rows": 0,
    }  # fmt: skip


def test_the_status_tells_who_is_past_a_limit_of_a_weighted_split(tmp_path: Path) -> None:
    guardrails = [{"metric": "error_rate", "limit": 0.02}, {"metric": "slow_share", "limit": 0.2}]
    with open_site(tmp_path, settings(weighted={"guardrails": guardrails})) as site:
        site.join()
        add(site, "v1", requests=1000, on_time=900, failed=5)
        add(site, "v2", requests=400, on_time=400, failed=100)
        assert site.get(STATUS)["versions"]["v2"]["guardrails"] == []
        site.post(CONFIGURE, {"strategy": "weighted"})
        found = {version: status["guardrails"] for version, status in site.get(STATUS)["versions"].items()}
        assert [(one["metric"], one["past_since"], one["requests"]) for one in found["v1"]] == [
            ("error_rate", None, 1005), ("slow_share", None, 1000),
        ]  # fmt: skip
        errors, slow = found["v2"]
        assert (errors["limit"], errors["observed"], errors["requests"]) == (0.02, 0.2, 500)
        assert datetime.now(UTC) - datetime.fromisoformat(errors["past_since"]) < timedelta(minutes=3)
        assert slow == {"metric": "slow_share", "limit": 0.2, "past_since": None, "observed": 0, "requests": 400}


def test_without_the_store_there_is_no_status(site: Site) -> None:
    site.break_store()
    answer = site.ask("GET", STATUS)
    assert (answer.status_code, code_of(answer)) == (503, "store_unavailable")
    assert site.ask("GET", f"{STATUS}?environment=moon").status_code == 404
