"""A/B dispatch from outside: what is changed at one worker holds at all, outlives the server, and can be taken back."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support import http
from tests.support.raw_http import Connection, request
from tests.support.server import ROW, Server, serving
from tests.support.waiting import wait_until

WORKERS = 2


def ask(server: Server, count: int = 1, **fields: Any) -> list[dict[str, Any]]:
    """Answers of the native route, over as many connections, so that both workers have their part of many."""
    answers = []
    for _ in range(count):
        with Connection(server) as connection:
            answer = connection.ask(request(json.dumps({"instances": [ROW], **fields}).encode()))
            assert answer.status == 200, answer
            answers.append(answer.json)
    return answers


def change(server: Server, body: Any, path: str = "/v1/traffic-split", **headers: str) -> httpx.Response:
    return http.post(f"{server.url}{path}", json=body, headers=headers, timeout=20)


def get(server: Server, path: str) -> Any:
    answer = http.get(f"{server.url}{path}", timeout=20)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.fixture(scope="module")
def routed(models: object) -> Any:
    with serving(environment={"SHOKADO_WORKERS": str(WORKERS)}) as running:
        yield running


def test_a_change_holds_at_every_worker_and_is_named_in_every_answer(routed: Server) -> None:
    changed = change(routed, {"v1": 0, "v2": 1})
    assert changed.status_code == 200, changed.text
    generation = changed.json()["generation"]
    assert changed.headers["etag"] == f'"{generation}"'
    routed.wait_for_generation(generation)
    answers = ask(routed, 40)
    assert {(answer["version"], answer["generation"]) for answer in answers} == {("v2", generation)}
    metric = http.get(f"{routed.url}/metrics", timeout=20).text
    wait_until(lambda: routed.metric("shokado_generation") == WORKERS * generation)
    assert "shokado_generation{" in metric


def test_only_who_saw_the_last_change_may_make_the_next(routed: Server) -> None:
    seen = http.get(f"{routed.url}/v1/traffic-split", timeout=20)
    first = change(routed, {"v1": 1, "v2": 1}, **{"If-Match": seen.headers["etag"]})
    assert first.status_code == 200
    second = change(routed, {"v1": 1}, **{"If-Match": seen.headers["etag"]})
    assert (second.status_code, second.json()["error"]["code"]) == (412, "generation_conflict")
    assert get(routed, "/v1/traffic-split")["generation"] == first.json()["generation"]


def test_a_unit_keeps_its_version_at_every_worker(routed: Server) -> None:
    generation = change(routed, {"weights": {"v1": 50, "v2": 50}, "strategy": "hash"}).json()["generation"]
    routed.wait_for_generation(generation)
    units = [f"user-{number}" for number in range(12)]
    by_body = {unit: {answer["version"] for answer in ask(routed, 6, unit=unit)} for unit in units}
    assert all(len(versions) == 1 for versions in by_body.values())
    assert {answer["reason"] for answer in ask(routed, 4, unit="user-1")} == {"STICKY"}
    assert len({next(iter(versions)) for versions in by_body.values()}) == 2
    for unit in units:
        headers = {"X-Unit-ID": unit}
        by_header = http.post(
            f"{routed.url}/v1/models/predict", json={"instances": [ROW]}, headers=headers, timeout=20
        ).json()
        assert {by_header["version"]} == by_body[unit]
        assert get(routed, f"/v1/traffic-split/explain?unit={unit}")["version"] == by_header["version"]


def test_without_a_unit_sticky_traffic_is_split_by_weight(routed: Server) -> None:
    changed = change(routed, {"weights": {"v1": 1, "v2": 1}, "strategy": "hash"}).json()
    routed.wait_for_generation(changed["generation"])
    counts = Counter(answer["version"] for answer in ask(routed, 80))
    assert min(counts["v1"], counts["v2"]) > 10


def test_a_rollback_brings_back_what_was_and_leaves_its_trace(routed: Server) -> None:
    before = get(routed, "/v1/traffic-split")
    generation = change(routed, {"weights": {"v2": 1}, "strategy": "random", "why": "try v2"}).json()["generation"]
    rolled = change(routed, {"generation": before["generation"], "why": "worse"}, "/v1/traffic-split/rollback")
    assert rolled.status_code == 200, rolled.text
    after = get(routed, "/v1/traffic-split")
    assert after["generation"] == generation + 1
    assert {key: after[key] for key in ("weights", "strategy", "salt", "active")} == {
        key: before[key] for key in ("weights", "strategy", "salt", "active")
    }
    latest, earlier = get(routed, "/v1/traffic-split/history?limit=2")["entries"]
    assert (latest["action"], latest["why"], earlier["why"]) == ("rollback", "worse", "try v2")


def test_environments_are_split_by_themselves(routed: Server) -> None:
    before = get(routed, "/v1/traffic-split?environment=production")
    changed = change(routed, {"environment": "staging", "weights": {"v1": 1}}).json()
    routed.wait_for_generation(changed["generation"])
    assert get(routed, "/v1/traffic-split")["weights"] == before["weights"]
    staged = http.post(
        f"{routed.url}/v1/models/predict", json={"instances": [ROW]}, headers={"X-Environment": "staging"}, timeout=20
    ).json()
    assert (staged["version"], staged["generation"]) == ("v1", changed["generation"])


def test_activation_decides_who_answers_when_the_split_is_off(routed: Server) -> None:
    assert change(routed, {}, "/models/v2/activate").status_code == 200
    generation = change(routed, {"enabled": False}).json()["generation"]
    routed.wait_for_generation(generation)
    assert {(a["version"], a["reason"]) for a in ask(routed, 10)} == {("v2", "ACTIVE")}
    routed.wait_for_generation(change(routed, {"enabled": True, "active": "v1"}).json()["generation"])


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ('{"v1": -1, "v2": 2}', 422, "v1"),
        ('{"v1": 0, "v2": 0}', 422, "above 0"),
        ('{"v1": NaN}', 422, "v1"),
        ('{"v1": Infinity}', 422, "v1"),
        ('{"v1": "90"}', 422, "v1"),
        ('{"v9": 1}', 404, "v9"),
        ('{"weights": {"v1": 1}, "environment": "moon"}', 404, "moon"),
        ('{"weights": {"v1": 1}, "strateggy": "hash"}', 422, "strateggy"),
        ('{"weights": {"v1": 1}, "strategy": "luck"}', 422, "strategy"),
        ("[1]", 422, ""),
        ("{", 400, ""),
    ],
)
def test_a_change_that_cannot_be_is_refused_and_changes_nothing(
    body: str, status: int, says: str, routed: Server
) -> None:
    before = get(routed, "/v1/traffic-split")
    refused = http.post(
        f"{routed.url}/v1/traffic-split", content=body, headers={"content-type": "application/json"}, timeout=20
    )
    assert refused.status_code == status, refused.text
    assert says in refused.json()["error"]["message"]
    assert get(routed, "/v1/traffic-split") == before


@pytest.mark.slow
def test_a_restart_keeps_everything(models: object, tmp_path: Path) -> None:
    environment = {"SHOKADO_WORKERS": "1", "SHOKADO_STORE": f"sqlite:///{tmp_path}/routing.db"}
    with serving(environment=environment) as server:
        prediction = ask(server)[0]
        changed = change(server, {"weights": {"v1": 30, "v2": 70}, "strategy": "hash", "salt": "autumn"}).json()
        assert change(server, {"prediction_id": prediction["prediction_id"], "label": 1}, "/v1/feedback").json()[
            "accepted"
        ]
        sticky = {unit: ask(server, unit=unit)[0]["version"] for unit in map(str, range(20))}
        history = get(server, "/v1/traffic-split/history")["entries"]
    with serving(environment=environment) as server:
        after = get(server, "/v1/traffic-split")
        assert {key: after[key] for key in changed} == changed
        assert "environment production is not as configured" in server.log.read_text()
        assert {unit: ask(server, unit=unit)[0]["version"] for unit in sticky} == sticky
        assert get(server, "/v1/traffic-split/history")["entries"] == history
        again = change(server, {"prediction_id": prediction["prediction_id"], "label": 1}, "/v1/feedback").json()
        assert (again["accepted"], again["duplicate"]) == (0, 1), "an id of before is known, and counts once"
