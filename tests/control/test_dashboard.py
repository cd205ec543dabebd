"""The data of the dashboard: one answer with all versions, and only the points that are new."""

import time
from collections import deque
from typing import Any

import jsonschema_rs
import psutil
import pytest

from shokado.control.dashboard import series_of
from shokado.monitoring.metrics.metric_registry import NO_VERSION
from shokado.monitoring.timeline import Moment, ProcessPoint, VersionPoint
from tests.control.site import Site
from tests.support.cards import TEXT
from tests.support.problems import code_of

PATH = "/v1/dashboard"


def observed(site: Site, *moments: float) -> None:
    """Points at these times, as the timeline would have them."""
    timeline = site.workers[0].parts.timeline
    timeline._moments.clear()
    timeline._moments.extend(Moment(at, {"v1": point(at)}, {7: ProcessPoint(1000, 0.5)}) for at in moments)


def point(rate: float) -> VersionPoint:
    return VersionPoint(rate, {"model": 0.5} if rate > 1 else {}, 1.0, 2.0, 3.0, 4.0, 0.25, None, 0.1)


def test_all_versions_are_told_with_their_state(empty_site: Site) -> None:
    empty_site.join(broken=frozenset({"v3"}))
    found = empty_site.get(PATH)
    assert (found["model"], found["generation"], found["not_ready"], found["keys"]) == ("paper", 1, None, False)
    versions = {one["version"]: one for one in found["versions"]}
    assert {name: one["state"] for name, one in versions.items()} == {"v1": "ready", "v2": "ready", "v3": "failed"}
    assert versions["v3"]["failure"].startswith("CardError")
    assert found["server"]
    assert found["offers"] == ["drift", "explanations"]


def test_what_was_counted_is_told_within_the_look(site: Site) -> None:
    site.run(site.workers[0].parts.timeline.observe())
    worker = site.workers[0].worker
    worker.metrics.predictions.started("v1", 3)
    worker.metrics.registry.flush()
    site.until(lambda: site.workers[0].parts.timeline.statistics.now() > 0)
    found = site.get(PATH)
    assert found["window_s"] > 0
    assert {one["version"] for one in found["versions"]} == {"v1", "v2", "v3"}
    assert found["series"]["at"][-1] == pytest.approx(found["at"], abs=60)


def test_before_the_first_snapshot_figures_are_those_since_the_start(site: Site) -> None:
    timeline = site.workers[0].parts.timeline
    timeline._moments.clear()
    timeline.statistics._snapshots = deque(maxlen=0)
    found = site.get(PATH)
    age_s = time.time() - psutil.Process().create_time()
    assert found["window_s"] == pytest.approx(age_s, abs=5), "this process stands for the server"
    assert len(found["series"]["at"]) == 1


def test_only_points_after_the_one_that_is_known_are_told(site: Site) -> None:
    parts = site.workers[0].parts
    now = parts.timeline.statistics.now()
    observed(site, now - 20, now - 15, now - 10)
    everything = site.get(PATH)
    at = everything["series"]["at"]
    assert at == sorted(at)
    assert [late - at[0] for late in at[:3]] == pytest.approx([0, 5, 10], abs=0.01)
    later = site.get(PATH, params={"after": at[1] + 0.01})
    assert later["series"]["at"][0] == pytest.approx(at[2], abs=0.01)
    assert everything["form"] is not None
    assert later["form"] is None


def test_points_become_columns_of_the_same_length() -> None:
    moments = [
        Moment(1.0, {"v1": point(1.0)}, {7: ProcessPoint(1000, 0.25)}),
        Moment(6.0, {"v1": point(2.0), "v2": point(3.0), NO_VERSION: point(4.0)}, {8: ProcessPoint(2000, 0.5)}),
    ]
    found = series_of(moments, ["v1", "v2", "v3"], 100.0)
    assert found.at == [101.0, 106.0]
    assert found.versions["v1"].request_rate_per_s == [1.0, 2.0]
    assert found.versions["v1"].error_rates_per_s == {"model": [0.0, 0.5]}
    assert found.versions["v2"].request_rate_per_s == [0.0, 3.0]
    assert found.versions["v2"].p99_ms == [None, 3.0]
    assert found.versions["v3"].p50_ms == [None, None]
    assert found.other_error_rates_per_s == {"model": [0.0, 0.5]}
    assert found.processes["7"].memory_bytes == [1000, None]
    assert found.processes["7"].cpu_utilization == [0.25, None]
    assert found.processes["8"].cpu_utilization == [None, 0.5]


@pytest.mark.parametrize("after", ["nan", "inf", "soon"])
def test_what_is_no_time_is_refused(site: Site, after: str) -> None:
    answer = site.ask("GET", PATH, params={"after": after})
    assert (answer.status_code, code_of(answer)) == (422, "invalid")


def test_a_form_is_told_types_levels_and_an_example(empty_site: Site) -> None:
    features = [
        {"name": "plan", "type": "category", "levels": ["free", "team"], "nullable": True, "description": "paid"},
        {"name": "count", "type": "integer"},
    ]
    empty_site.join(card={"format": 3, "features": features, "examples": {"rows": [[1.0, 2.0]], "scores": [0.5]}})
    form = empty_site.get(PATH)["form"]
    assert form["features"] == [
        {
            "name": "plan", "type": "category", "nullable": True, "description": "paid", "levels": ["free", "team"],
            "other": False, "range": None, "versions": None,
        },
        {
            "name": "count", "type": "integer", "nullable": False, "description": "", "levels": [], "other": False,
            "range": None, "versions": None,
        },
    ]  # fmt: skip
    assert form["instance"] == {"plan": "team", "count": 2}
    assert (form["path"], form["takes"]) == ("/v1/models/predict", "rows of 2 numbers")


def test_a_form_of_versions_that_differ_has_all_features_and_says_whose_they_are(empty_site: Site) -> None:
    wider = {
        "features": [{"name": "width"}, {"name": "count", "type": "integer"}, {"name": "depth"}],
        "examples": {"rows": [[1.0, 2.0, 3.0]], "scores": [0.5]},
    }
    empty_site.join(own={"v3": wider})
    form = empty_site.get(PATH)["form"]
    assert {one["name"]: one["versions"] for one in form["features"]} == {"width": None, "count": None, "depth": ["v3"]}
    assert form["instance"].keys() == {"width", "count", "depth"}


def test_a_form_of_a_text_asks_for_one(empty_site: Site) -> None:
    empty_site.join(card=TEXT)
    form: dict[str, Any] = empty_site.get(PATH)["form"]
    assert [one["type"] for one in form["features"]] == ["text"]
    assert (form["instance"], form["takes"]) == ("win a prize", "a text")


def test_the_answer_is_as_the_description_says(site: Site) -> None:
    site.run(site.workers[0].parts.timeline.observe())
    described = site.get("/openapi.json")
    schema = described["paths"][PATH]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    validator = jsonschema_rs.Draft202012Validator({**schema, "components": described["components"]})
    for query in ({}, {"after": "1e9"}):
        validator.validate(site.get(PATH, params=query))
