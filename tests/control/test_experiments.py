"""Experiments as a resource: begun, shown and stopped, once, with everything in the history."""

from typing import Any

import pytest

from shokado.dispatch.reason import Reason
from shokado.dispatch.state import RoutingState
from tests.control.site import Site
from tests.support.problems import code_of, message_of
from tests.transports.predictions import prediction

EXPERIMENTS = "/v1/experiments"
SPLIT = "/v1/traffic-split"
PLAN = {"metric": "reward", "smallest_effect": 0.1, "label_delay_s": 60, "max_duration_s": 1000}


def begin(site: Site, **more: Any) -> Any:
    answer = site.post(EXPERIMENTS, PLAN | more, {"X-Actor": "ann"})
    assert answer.status_code == 201, answer.text
    return answer.json()


def test_an_experiment_begins_with_the_versions_of_the_split(site: Site) -> None:
    answer = site.post(EXPERIMENTS, PLAN | {"why": "is it better?"}, {"X-Actor": "ann"})
    begun = answer.json()
    assert (answer.status_code, answer.headers["etag"]) == (201, '"2"')
    assert answer.headers["location"] == f"{EXPERIMENTS}/{begun['id']}"
    assert [begun[name] for name in ("environment", "control", "candidates", "verdict", "running")] == [
        "production", "v1", ["v2"], "RUNNING", True,
    ]  # fmt: skip
    assert begun["plan"]["at_end"] == "tell"
    (stage,) = begun["stages"]
    assert stage["artefacts"].keys() == {"v1", "v2"}
    assert stage == {
        "artefacts": stage["artefacts"],
        "generation": 2,
        "shares": {"v1": 0.8, "v2": 0.2},
        "sticky": False,
    }
    assert site.get(f"{EXPERIMENTS}/{begun['id']}") == begun
    assert site.get(EXPERIMENTS)["experiments"] == [begun]
    (entry, *_) = site.get(f"{SPLIT}/history")["entries"]
    assert [entry[name] for name in ("action", "by", "why")] == ["experiment", "ann", "is it better?"]
    assert entry["changed"]["production"]["experiment"] == {"before": None, "after": begun["id"]}
    assert site.get(SPLIT)["experiment"] == begun["id"]
    assert site.get("/ab-test/status")["experiment"] == begun
    assert site.get("/ab-test/status?environment=staging")["experiment"] is None


def test_an_environment_has_one_experiment_at_a_time(site: Site) -> None:
    begun = begin(site)
    refused = site.post(EXPERIMENTS, PLAN)
    assert (refused.status_code, code_of(refused)) == (409, "experiment_running")
    assert begun["id"] in message_of(refused)
    site.post(SPLIT, {"environment": "staging", "weights": {"v2": 1, "v3": 1}})
    other = begin(site, environment="staging", control="v2", candidates=["v3"])
    assert [one["id"] for one in site.get(EXPERIMENTS)["experiments"]] == [begun["id"], other["id"]]


@pytest.mark.parametrize(
    ("body", "status", "code", "says"),
    [
        ({"metric": "luck"}, 422, "invalid", "metric"),
        ({"metric": "squared_error"}, 422, "invalid", "metric"),
        ({"guardrails": [{"metric": "absolute_error", "margin": 1}]}, 422, "invalid", "guardrails"),
        ({"guardrails": [{"metric": "latency", "limit": 0.5}]}, 422, "invalid", "guardrails.0"),
        ({"smallest_effect": 0}, 422, "invalid", "smallest_effect"),
        ({"error_rate": 0.9}, 422, "invalid", "error_rate"),
        ({"max_duration_s": 0.5}, 422, "invalid", "max_duration_s"),
        ({"label_delay_s": -1}, 422, "invalid", "label_delay_s"),
        ({"label_delay_s": 0}, 422, "invalid", "none would count for reward: set it to the seconds"),
        ({"at_end": "hope"}, 422, "invalid", "at_end"),
        ({"candidates": []}, 422, "invalid", "candidates"),
        ({"alpha": 0.1}, 422, "unknown_field", "alpha"),
        ({"candidates": ["v9"]}, 404, "unknown_version", "v9"),
        ({"environment": "moon"}, 404, "unknown_environment", "moon"),
        ({"candidates": ["v3"]}, 409, "not_in_split", "v3"),
        ({"environment": "staging"}, 409, "not_in_split", "staging"),
    ],
)
def test_what_cannot_be_an_experiment_is_refused(
    site: Site, body: dict[str, Any], status: int, code: str, says: str
) -> None:
    answer = site.post(EXPERIMENTS, PLAN | body)
    assert (answer.status_code, code_of(answer)) == (status, code), answer.text
    assert says in message_of(answer)
    assert site.get(SPLIT)["generation"] == 1


def test_one_that_is_stopped_has_ended_for_good(site: Site) -> None:
    begun = begin(site)
    stopped = site.post(f"{EXPERIMENTS}/{begun['id']}/stop", {"why": "enough"}, {"X-Actor": "bob"})
    assert stopped.status_code == 200, stopped.text
    content = stopped.json()
    assert [content[name] for name in ("verdict", "reason", "running")] == ["STOPPED", "enough", False]
    assert site.get(SPLIT)["shares"] == {"v1": 0.8, "v2": 0.2}
    again = site.post(f"{EXPERIMENTS}/{begun['id']}/stop", {})
    assert (again.status_code, code_of(again)) == (409, "experiment_over")
    (entry, *_) = site.get(f"{SPLIT}/history")["entries"]
    assert [entry[name] for name in ("action", "by", "why")] == ["conclude", "bob", "enough"]
    later = begin(site)
    assert [one["id"] for one in site.get(EXPERIMENTS)["experiments"]] == [later["id"], begun["id"]]
    assert site.get(f"{EXPERIMENTS}/{begun['id']}") == content, "the history has it"
    unknown = site.ask("GET", f"{EXPERIMENTS}/none")
    assert (unknown.status_code, code_of(unknown)) == (404, "unknown_experiment")


def test_who_was_overtaken_begins_and_stops_nothing(site: Site) -> None:
    late = site.post(EXPERIMENTS, PLAN, {"If-Match": '"7"'})
    assert (late.status_code, code_of(late)) == (412, "generation_conflict")
    begun = begin(site)
    late = site.post(f"{EXPERIMENTS}/{begun['id']}/stop", {}, {"If-Match": '"1"'})
    assert (late.status_code, code_of(late)) == (412, "generation_conflict")
    assert site.get(f"{EXPERIMENTS}/{begun['id']}")["running"]


def test_every_worker_knows_it_at_once(site: Site) -> None:
    site.join()
    for number in range(3):
        begun = begin(site)
        assert site.get(EXPERIMENTS, worker=1)["experiments"][0] == begun, number
        stopped = site.ask("POST", f"{EXPERIMENTS}/{begun['id']}/stop", worker=1, json={})
        assert stopped.status_code == 200, stopped.text
        assert site.get(f"{EXPERIMENTS}/{begun['id']}") == stopped.json()


def test_rewards_of_what_the_split_made_are_shown_and_count_once(site: Site) -> None:
    begun = begin(site)
    worker = site.workers[0]
    state: RoutingState = worker.dispatcher.state
    assert state.environments["production"].running is not None
    entries = []
    for version, reason, reward in (
        ("v1", Reason.SPLIT, 0.25), ("v2", Reason.SPLIT, 1), ("v2", Reason.PINNED, 1),
    ):  # fmt: skip
        made = prediction(worker.cards[version], [0.5], version)
        made.origin, _ = worker.dispatcher._routes["production"][1][version]
        made.reason, made.unit = reason, f"{version}-{reason}"
        entries.append({"prediction_id": worker.ids.make(made), "reward": reward})
    assert site.post("/v1/feedback", [*entries, entries[0]]).json()["accepted"] == 3
    found = site.run(worker.follower.ask(worker.follower.store.evidence, begun["id"], 1e12)).sums
    assert {key[1:]: value for key, value in found.items()} == {
        ("v1", "reward.count"): 1, ("v1", "reward.sum"): 0.25, ("v1", "reward.squares"): 0.0625,
        ("v2", "reward.count"): 1, ("v2", "reward.sum"): 1, ("v2", "reward.squares"): 1,
    }  # fmt: skip


def test_a_shadow_is_compared_with_the_version_that_answers(site: Site) -> None:
    plan = {"design": "shadow", "metric": "agreement", "smallest_effect": 0.05, "sample": 0.5}
    refused = site.post(EXPERIMENTS, PLAN | plan)
    assert (refused.status_code, code_of(refused)) == (409, "not_the_shadow")
    assert "its shadow is nobody" in message_of(refused)
    site.post(SPLIT, {"shadow": "v3"})
    begun = begin(site, **plan)
    assert (begun["control"], begun["candidates"], begun["pairs"]) == ("v1", ["v3"], {})
    assert (begun["plan"]["design"], begun["plan"]["sample"]) == ("shadow", 0.5)
    (stage,) = begun["stages"]
    assert stage["artefacts"].keys() == {"v1", "v3"}
    assert stage == {"artefacts": stage["artefacts"], "generation": 3, "shares": {"v1": 1.0}, "sticky": False}
    assert site.get("/v1/verdict?candidate=v3")["verdict"] == "RUNNING"
    site.post(SPLIT, {"shadow": None})
    assert [stage["shares"] for stage in site.get(f"{EXPERIMENTS}/{begun['id']}")["stages"]] == [{"v1": 1.0}, {}]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"metric": "reward", "design": "shadow"}, "there is no reward of it"),
        ({"metric": "agreement"}, "give design: shadow"),
        ({"metric": "agreement", "design": "shadow", "sample": 0}, "sample"),
        ({"metric": "squared_error", "design": "shadow"}, "cannot be had of a model that answers classes"),
    ],
)
def test_what_a_shadow_cannot_be_asked_is_refused(site: Site, body: dict[str, Any], says: str) -> None:
    answer = site.post(EXPERIMENTS, PLAN | body)
    assert answer.status_code == 422, answer.text
    assert says in message_of(answer)


CHECKOUT = {"name": "checkout", "from": 0.0, "to": 0.5}
OUTSIDE = {**CHECKOUT, "outside": "v1"}


def test_a_layer_is_told_wherever_its_experiment_and_its_split_are(site: Site) -> None:
    refused = site.post(EXPERIMENTS, PLAN | {"layer": CHECKOUT})
    assert (refused.status_code, code_of(refused)) == (409, "layer_without_units")
    assert "under the strategy random of production requests are drawn; give it the strategy hash" in message_of(
        refused
    )
    site.post(SPLIT, {"weights": {"v1": 50, "v2": 50}, "strategy": "hash"})
    begun = begin(site, layer=CHECKOUT)
    assert begun["plan"]["layer"] == CHECKOUT
    assert site.get("/ab-test/status")["experiment"]["plan"]["layer"] == CHECKOUT
    versions = site.get("/ab-test/status")["versions"]
    assert {name: version["share"] for name, version in versions.items()} == {"v1": 0.75, "v2": 0.25}
    split = site.get(SPLIT)
    assert (split["layer"], split["shares"]) == (OUTSIDE, {"v1": 0.5, "v2": 0.5})
    (entry, *_) = site.get(f"{SPLIT}/history")["entries"]
    assert entry["changed"]["production"]["layer"] == {"before": None, "after": OUTSIDE}
    site.post(SPLIT, {"environment": "staging", "weights": {"v2": 1, "v3": 1}, "strategy": "hash"})
    there = {"environment": "staging", "control": "v2"}
    refused = site.post(EXPERIMENTS, PLAN | there | {"layer": CHECKOUT | {"from": 0.4, "to": 0.6}})
    assert (refused.status_code, code_of(refused)) == (409, "layer_overlap")
    said = f"the experiment {begun['id']} of production has the part from 0 to 0.5 of the layer checkout, and this one"
    assert said in message_of(refused)
    other = begin(site, **there, layer=CHECKOUT | {"from": 0.5, "to": 1.0})
    assert other["plan"]["layer"]["from"] == 0.5
    assert site.post(f"{EXPERIMENTS}/{begun['id']}/stop", {}).json()["plan"]["layer"] == CHECKOUT
    assert site.get(SPLIT)["layer"] == OUTSIDE, "the split stays as it is"
    site.post(SPLIT, {"v1": 50, "v2": 50})
    assert site.get(SPLIT)["layer"] is None


@pytest.mark.parametrize(
    ("layer", "says"),
    [
        ({"from": 0.5, "to": 0.5}, "layer: from is 0.5 and to is 0.5: nobody is inside"),
        ({"to": 2}, "layer.to"),
        ({"name": ""}, "layer.name"),
        ({"owner": "ann"}, "layer.owner"),
    ],
)
def test_what_is_no_part_of_a_layer_is_refused_by_its_name(site: Site, layer: dict[str, Any], says: str) -> None:
    refused = site.post(EXPERIMENTS, PLAN | {"layer": CHECKOUT | layer})
    assert refused.status_code == 422
    assert says in message_of(refused)
