"""Effects over time, over the evidence of a real store."""

import time
from typing import Any

import pytest

from configuration.experiment_policy import ExperimentMetric
from shokado.experiments.experiment_counts import ASSIGNED, ERRORS, REQUESTS, sums_named
from shokado.stores.evidence import Evidence, EvidenceBatch
from tests.control.site import Site
from tests.support.problems import code_of

EXPERIMENTS = "/v1/experiments"
RAIL = {"metric": "error_rate", "limit": 0.5}
PLAN = {"metric": "reward", "smallest_effect": 0.1, "label_delay_s": 1, "max_duration_s": 1000, "guardrails": [RAIL]}
COHORT_S = 5
COUNT, SUM, SQUARES = sums_named(ExperimentMetric.REWARD)
ANSWERS = sums_named(ExperimentMetric.LATENCY)[0]


def begin(site: Site, **more: Any) -> Any:
    answer = site.post(EXPERIMENTS, PLAN | more)
    assert answer.status_code == 201, answer.text
    return answer.json()


def count(site: Site, experiment: Any, *rewarded: tuple[int, int]) -> None:
    """Have the store know of 40 answers of v1 and 10 of v2 in each cohort, and how many of them had a reward."""
    begun = int(time.time() - 100) // COHORT_S * COHORT_S
    counts = {}
    for index, right in enumerate(rewarded):
        for version, number, of_them in (("v1", 40, right[0]), ("v2", 10, right[1])):
            sums = dict.fromkeys((ASSIGNED, REQUESTS, ANSWERS, COUNT), number) | {SUM: of_them, SQUARES: of_them}
            for name, value in (sums | {ERRORS: 0}).items():
                of = Evidence(experiment["stages"][-1]["generation"], version, begun + index * COHORT_S, name)
                counts[experiment["id"], of] = float(value)
    follower = site.workers[0].follower
    site.run(follower.ask(follower.store.add_evidence, EvidenceBatch("w9", 1, counts), time.time()))


def test_effects_are_told_over_time_and_end_with_those_of_now(site: Site) -> None:
    begun = begin(site)
    path = f"{EXPERIMENTS}/{begun['id']}"
    assert site.get(f"{path}/effects") == {
        "id": begun["id"],
        "at": [],
        "candidates": {"v2": {"estimate": [], "low": [], "high": [], "observations": []}},
    }
    count(site, begun, (10, 5), (10, 4), (10, 6))
    told, now = site.get(f"{path}/effects"), site.get(path)["versions"]["v2"]
    curve = told["candidates"]["v2"]
    assert [later - told["at"][0] for later in told["at"]] == [0, COHORT_S, 2 * COHORT_S]
    assert curve["observations"] == [10, 20, 30]
    assert curve["estimate"] == pytest.approx([0.25, 0.2, 0.25])
    assert [high - low for low, high in zip(curve["low"], curve["high"], strict=True)] == sorted(
        (high - low for low, high in zip(curve["low"], curve["high"], strict=True)), reverse=True
    ), "more is known with time"
    assert [curve[name][-1] for name in ("estimate", "low", "high")] == pytest.approx(
        [now["effect"], now["low"], now["high"]], abs=1e-9
    )
    (rail,) = now["guardrails"]
    assert (rail["metric"], rail["state"]) == ("error_rate", "kept")
    assert "at most 0.5" in rail["reason"]


def test_effects_are_there_for_a_while_after_the_end(site: Site) -> None:
    begun = begin(site)
    count(site, begun, (10, 5))
    path = f"{EXPERIMENTS}/{begun['id']}"
    before = site.get(f"{path}/effects")
    assert site.post(f"{path}/stop", {}).status_code == 200
    assert site.get(f"{path}/effects") == before
    assert site.get(path)["versions"]["v2"]["guardrails"] is None
    follower = site.workers[0].follower
    site.run(follower.ask(follower.store.forget_evidence, (), time.time()))
    assert site.get(f"{path}/effects")["at"] == []


def test_an_experiment_that_is_not_there_has_no_effects(site: Site) -> None:
    answer = site.ask("GET", f"{EXPERIMENTS}/none/effects")
    assert (answer.status_code, code_of(answer)) == (404, "unknown_experiment")
