"""Feedback, the weighted strategy, shadows and the cache, on real servers."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shokado.request_log.logged_rows import rows_in
from tests.end_to_end.closed_loop import UNPINNED, load
from tests.end_to_end.test_routing import ask, change, get
from tests.support import http
from tests.support.redis_server import RedisServer, needs_redis
from tests.support.server import Server, serving
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def tuned(models: object) -> Iterator[Server]:
    """Two workers that move a weighted split twice a second."""
    settings = {"SHOKADO_WEIGHTED__UPDATE_EVERY_S": "0.5", "SHOKADO_WEIGHTED__MAX_STEP": "0.2"}
    with serving(environment={"SHOKADO_WORKERS": "2", **settings}) as running:
        yield running


def feedback(server: Server, entries: Any) -> Any:
    answer = http.post(f"{server.url}/v1/feedback", json=entries, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()


def figures(server: Server, version: str) -> Any:
    return get(server, "/ab-test/status")["versions"][version]


def test_feedback_is_joined_to_the_version_that_answered_once(tuned: Server) -> None:
    answers = ask(tuned, 6, version="v1") + ask(tuned, 4, version="v2")
    entries = []
    for number, answer in enumerate(answers):
        (predicted,) = answer["classes"]
        label = predicted if number % 2 else 1 - predicted
        entries.append({"prediction_id": answer["prediction_id"], "label": label})
    forged = answers[0]["prediction_id"][:-4] + "AAAA"
    told = feedback(tuned, [*entries, entries[0], {"prediction_id": forged, "label": 1}, {"prediction_id": "?"}])
    assert (told["accepted"], told["duplicate"], told["rejected"]) == (10, 1, 2)
    assert [result["status"] for result in told["results"][-3:]] == ["duplicate", "forged", "malformed"]
    assert feedback(tuned, entries)["duplicate"] == 10, "at either worker"
    one, other = figures(tuned, "v1"), figures(tuned, "v2")
    assert (one["accuracy"]["value"], one["labels"], other["accuracy"]["value"], other["labels"]) == (0.5, 6, 0.5, 4)
    wait_until(lambda: figures(tuned, "v1")["label_coverage"] == 1.0)
    refused = get(tuned, "/ab-test/status")["refused_feedback"]
    assert (refused["forged"], refused["malformed"], refused["duplicate"], refused["expired"]) == (1, 1, 11, 0)


def test_the_weighted_split_moves_to_what_is_rewarded_and_says_why(tuned: Server) -> None:
    rewards = {"v1": 0.0, "v2": 1.0}
    for version, reward in rewards.items():
        answers = ask(tuned, 40, version=version)
        feedback(tuned, [{"prediction_id": each["prediction_id"], "reward": reward} for each in answers])
    # Not before: the first step would be made with what was known halfway.
    assert change(tuned, {"weights": {"v1": 50, "v2": 50}, "strategy": "weighted"}).status_code == 200
    wait_until(lambda: get(tuned, "/v1/traffic-split")["shares"]["v2"] > 0.9)
    shares = get(tuned, "/v1/traffic-split")["shares"]
    assert shares["v1"] >= 0.05 - 1e-9, "the least share"
    entries = [
        entry for entry in get(tuned, "/v1/traffic-split/history?limit=50")["entries"] if entry["action"] == "weighted"
    ]
    assert len(entries) >= 3, "one step at a time"
    assert {entry["by"] for entry in entries} == {"shokado"}
    assert all(entry["why"] == "v2 1 against v1 0 by reward" for entry in entries)
    before, after = (entry["environments"]["production"]["shares"]["v2"] for entry in (entries[-1], entries[-2]))
    assert 0 < after - before <= 0.2 + 1e-9


def test_a_version_past_a_limit_has_its_least_share_at_once_however_much_it_earns(
    models: object, tmp_path: Path
) -> None:
    """No answer is as quick as it should be here, and only one version has answered anything."""
    settings = {
        "SHOKADO_WEIGHTED__UPDATE_EVERY_S": "0.5", "SHOKADO_WEIGHTED__LATENCY_TARGET_MS": "0.001",
        "SHOKADO_WEIGHTED__GUARDRAILS": '[{"metric": "slow_share", "limit": 0.5}]', "SHOKADO_WORKERS": "2",
        "SHOKADO_LOG__SHARE": "1", "SHOKADO_LOG__FOLDER": str(tmp_path), "SHOKADO_LOG__FLUSH_S": "0.05",
    }  # fmt: skip
    with serving(environment=settings) as server:
        answers = ask(server, 40, version="v2")
        feedback(server, [{"prediction_id": each["prediction_id"], "reward": 1} for each in answers])
        wait_until(lambda: figures(server, "v2")["requests"] == 40)
        change(server, {"weights": {"v1": 30, "v2": 70}, "strategy": "weighted"})
        wait_until(lambda: get(server, "/v1/traffic-split")["shares"]["v2"] < 0.1)
        assert get(server, "/v1/traffic-split")["shares"] == pytest.approx({"v1": 0.95, "v2": 0.05})
        newest, before, *_ = get(server, "/v1/traffic-split/history?limit=5")["entries"]
        assert newest["why"].startswith(
            "v2 has its least share for slow_share 1 of 40 requests (at most 0.5), found at "
        )
        assert before["environments"]["production"]["shares"]["v2"] == 0.7, "at once"
        (standing,), (kept,) = (figures(server, version)["guardrails"] for version in ("v2", "v1"))
        assert (standing["observed"], standing["requests"]) == (1, 40)
        assert standing["past_since"] is not None
        assert (kept["past_since"], kept["requests"]) == (None, 0)
        server.wait_for_generation(newest["generation"])
        answers = ask(server, 20)
        wait_until(lambda: len(list(rows_in(tmp_path))) == 60)
        chances = {row.prediction_id: row.propensity for row in rows_in(tmp_path)}
        expected = {"v1": pytest.approx(0.95), "v2": pytest.approx(0.05)}
        assert all(chances[each["prediction_id"]] == expected[each["version"]] for each in answers)
        assert sum(chance is None for chance in chances.values()) == 40, "those that named their version"


@pytest.mark.slow
def test_a_shadow_is_compared_and_never_seen(models: object) -> None:
    """A fifth of the time may go into copies, so that there are enough of them soon."""
    with serving(environment={"SHOKADO_WORKERS": "2", "SHOKADO_SHADOW__CPU_SHARE": "0.2"}) as server:
        changed = change(server, {"weights": {"v1": 1}, "shadow": "v2"})
        assert changed.status_code == 200, changed.text
        server.wait_for_generation(changed.json()["generation"])
        with load(server, 8, lambda _: UNPINNED) as clients:
            wait_until(lambda: server.metric("shokado_shadow_rows_total") > 200)
        assert {answer.json["version"] for answer in clients.answers if answer.json["generation"] > 1} == {"v1"}
        assert {answer.status for answer in clients.answers} == {200}
        (one,) = {answer["predictions"][0] for answer in ask(server, version="v1")}
        (other,) = {answer["predictions"][0] for answer in ask(server, version="v2")}
        wait_until(lambda: (figures(server, "v2")["shadow"] or {"rows": 0})["rows"] > 200)
        compared = figures(server, "v2")["shadow"]
        assert compared["mean_difference"] == pytest.approx(abs(one - other), abs=1e-4)
        assert compared["agreement"] == float((one >= 0.5) == (other >= 0.5))


def cached(server: Server) -> tuple[float, float]:
    name = "shokado_cache_requests_total"
    return server.metric(name, outcome="hit"), server.metric(name, outcome="miss")


@pytest.mark.slow
def test_a_cache_answers_what_was_scored_before_and_no_other_version(models: object) -> None:
    environment = {"SHOKADO_WORKERS": "1", "SHOKADO_CACHE__BACKEND": "memory"}
    with serving(environment=environment) as server:
        first = {version: ask(server, version=version)[0]["predictions"] for version in ("v1", "v2")}
        wait_until(lambda: cached(server) == (0, 2))
        for version, predictions in first.items():
            assert {tuple(answer["predictions"]) for answer in ask(server, 5, version=version)} == {tuple(predictions)}
        wait_until(lambda: cached(server) == (10, 2))
        assert first["v1"] != first["v2"]


@pytest.mark.slow
@needs_redis
def test_a_cache_in_redis_is_shared_and_may_die_which_is_logged(models: object, tmp_path: Path) -> None:
    with RedisServer(tmp_path) as redis_server:
        environment = {
            "SHOKADO_WORKERS": "2",
            "SHOKADO_CACHE__BACKEND": "redis",
            "SHOKADO_CACHE__URL": redis_server.url,
        }
        with serving(environment=environment) as server:
            wait_until(lambda: bool(ask(server, 4, version="v1")) and cached(server)[0] > 4)
            redis_server.kill()
            assert len({tuple(answer["predictions"]) for answer in ask(server, 20, version="v1")}) == 1
            wait_until(lambda: "the answer cache cannot be used" in server.log.read_text())
            redis_server.start()
            wait_until(lambda: re.search(r"\[INFO\].* the answer cache can be reached again", server.log.read_text()))
