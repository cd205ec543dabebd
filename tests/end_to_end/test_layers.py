"""Layers on a real server with two workers: two experiments that share no unit, by whichever door a request comes."""

import json
import time
from typing import Any

import httpx
import pytest

from configuration.experiment_plan import MAX_COHORTS
from tests.end_to_end.test_experiment_verdicts import HALVES, PLAN, ended, reward
from tests.end_to_end.test_routing import change, get
from tests.support.raw_http import NATIVE, Connection, request
from tests.support.server import ROW, Server
from tests.support.waiting import wait_until

COHORT_S = 8
UNITS = [f"user-{number}" for number in range(160)]
PARTS = {"production": (0.0, 0.5), "staging": (0.5, 1.0)}
pytestmark = pytest.mark.timeout(600)


def begin(server: Server, environment: str) -> Any:
    """Begin an experiment with a part of the layer, all of whose time is one cohort."""
    split = {"environment": environment, "weights": HALVES, "active": "v1", "strategy": "hash"}
    assert change(server, split).status_code == 200
    begun = order(server, environment, *PARTS[environment])
    assert begun.status_code == 201, begun.text
    return begun.json()


def order(server: Server, environment: str, start: float, end: float) -> httpx.Response:
    layer = {"name": "checkout", "from": start, "to": end}
    plan = {**PLAN, "environment": environment, "max_duration_s": COHORT_S * MAX_COHORTS, "layer": layer}
    return change(server, plan, "/v1/experiments", **{"X-Actor": "ann"})


def asked(server: Server, environment: str, path: str = NATIVE) -> dict[str, dict[str, Any]]:
    """What each unit is answered, over connections to both workers; a query is for the plain door."""
    answers = {}
    for start in range(0, len(UNITS), 20):
        with Connection(server) as connection:
            for unit in UNITS[start : start + 20]:
                body = json.dumps({"instances": [ROW], "unit": unit}).encode()
                answer = connection.ask(request(body, path, headers=[("x-environment", environment)]))
                assert answer.status == 200, answer
                answers[unit] = answer.json
    return answers


@pytest.mark.slow
def test_two_experiments_of_a_layer_share_no_unit_and_end_for_everybody(own_server: Server) -> None:
    server = own_server
    begun = {environment: begin(server, environment) for environment in PARTS}
    change(server, {}, f"/v1/experiments/{begun['staging']['id']}/stop")
    refused = order(server, "staging", 0.4, 0.6)
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "layer_overlap")
    begun["staging"] = begin(server, "staging")
    server.wait_for_generation(begun["staging"]["stages"][0]["generation"])

    wait_until(lambda: time.time() % COHORT_S < 1)
    answers = {environment: asked(server, environment) for environment in PARTS}
    inside = {
        environment: {unit for unit, answer in found.items() if answer["reason"] == "STICKY"}
        for environment, found in answers.items()
    }
    assert inside["production"].isdisjoint(inside["staging"])
    assert inside["production"] | inside["staging"] == set(UNITS)
    for environment, found in answers.items():
        outside = [answer for unit, answer in found.items() if unit not in inside[environment]]
        assert {(answer["version"], answer["reason"]) for answer in outside} == {("v1", "OUTSIDE_LAYER")}
        assert {found[unit]["version"] for unit in inside[environment]} == {"v1", "v2"}
    plain = asked(server, "production", f"{NATIVE}?door=plain")
    for unit, answer in plain.items():
        assert [answer[name] for name in ("version", "reason")] == [
            answers["production"][unit][name] for name in ("version", "reason")
        ]

    # Outside they are told to be worth nothing, which would make the control seem the worse one.
    of_production = answers["production"]
    assert reward(server, [of_production[unit] for unit in UNITS if unit not in inside["production"]], {"v1": 0.0}) > 0
    reward(server, [of_production[unit] for unit in inside["production"]], {"v1": 0.0, "v2": 1.0})
    found = ended(server, begun["production"]["id"])
    assert (found["verdict"], found["winner"]) == ("PROMOTE", "v2")
    for version in HALVES:
        given = sum(of_production[unit]["version"] == version for unit in inside["production"])
        assert (found["versions"][version]["assigned"], found["versions"][version]["observations"]) == (given, given)

    after = asked(server, "production")
    assert {(answer["version"], answer["reason"]) for answer in after.values()} == {("v2", "STICKY")}
    assert get(server, "/v1/traffic-split")["layer"] is None
    staging = get(server, f"/v1/experiments/{begun['staging']['id']}")
    assert staging["running"]
    assert sum(version["assigned"] for version in staging["versions"].values()) == len(inside["staging"])
    assert get(server, "/v1/traffic-split?environment=staging")["layer"]["outside"] == "v1"
