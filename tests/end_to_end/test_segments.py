"""Figures by segment on real servers of two workers, over SQLite and Redis, held against fairlearn on the same rows."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.end_to_end.test_experiment_verdicts import begin, ended
from tests.end_to_end.test_routing import get
from tests.support import http
from tests.support.fairlearn_rates import agrees, fairlearn, needs_fairlearn
from tests.support.redis_server import RedisServer, needs_redis
from tests.support.server import ROW, Server, serving

pytestmark = pytest.mark.slow
FEATURES = {"age": {"cuts": [30, 50]}, "is_premium": {}, "region": {"levels": [0, 1]}, "sex": {"levels": ["f", "m"]}}
PER_REQUEST = 8


@pytest.fixture(scope="module", params=["sqlite", pytest.param("redis", marks=needs_redis)])
def segmented(
    models: object, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    """A server, and what was asked and told of it."""
    environment = {"SHOKADO_WORKERS": "2", "SHOKADO_SEGMENTS__FEATURES": json.dumps(FEATURES)}
    with ExitStack() as running:
        if request.param == "redis":
            redis = running.enter_context(RedisServer(tmp_path_factory.mktemp("redis")))
            environment["SHOKADO_STORE"] = redis.url
        server = running.enter_context(serving(environment=environment))
        yield server, told(server)


def told(server: Server) -> list[dict[str, Any]]:
    """Ask for rows of all segments, by both doors and all workers, and tell what would have been right."""
    random, outcomes = Random(3), []
    for number in range(60):
        rows = [
            [random.choice([18, 30, 49, 50, 70]), *ROW[1:7], random.choice([0, 1]), random.choice([0, 1, 2]), ROW[9]]
            for _ in range(PER_REQUEST)
        ]
        for row in rows:
            row[2] = random.choice([400, 690, 800])
            row[6] = random.choice([0, 9])
        # A query makes it the plain door's.
        path = "/v1/models/predict" + ("?plain" if number % 2 else "")
        answer = http.post(f"{server.url}{path}", json={"instances": rows, "version": "v1"}, timeout=20).json()
        entries = []
        for index, (row, predicted) in enumerate(zip(rows, answer["classes"], strict=True)):
            label = predicted if random.random() < (0.9 if row[7] else 0.6) else 1 - predicted
            sex = random.choice(["f", "m"])
            outcomes.append({"row": row, "predicted": predicted, "label": label, "sex": sex})
            entry = {"prediction_id": answer["prediction_id"], "index": index, "label": label, "segments": {"sex": sex}}
            entries.append(entry)
        for _ in range(2):
            assert http.post(f"{server.url}/v1/feedback", json=entries, timeout=20).status_code == 200
    return outcomes


def ranged(age: float) -> str:
    return "below 30" if age < 30 else "30 to below 50" if age < 50 else "50 and above"


LEVELS: dict[str, Callable[[Any], str]] = {
    "age": lambda outcome: ranged(outcome["row"][0]),
    "is_premium": lambda outcome: ["false", "true"][outcome["row"][7]],
    "region": lambda outcome: ["0", "1", "(others)"][outcome["row"][8]],
    "sex": lambda outcome: outcome["sex"],
}


@needs_fairlearn
@pytest.mark.parametrize("by", LEVELS)
def test_the_numbers_are_those_of_fairlearn(segmented: tuple[Server, list[Any]], by: str) -> None:
    server, outcomes = segmented
    found = get(server, f"/v1/metrics/v1?by={by}")
    assert sum(level["labels"] for level in found["segments"]["levels"]) == len(outcomes) == found["quality"]["labels"]
    labels, predicted = ([outcome[name] for outcome in outcomes] for name in ("label", "predicted"))
    agrees(found["segments"], fairlearn(labels, predicted, [LEVELS[by](outcome) for outcome in outcomes]))


def test_what_is_sure_is_said(segmented: tuple[Server, list[Any]]) -> None:
    server, _ = segmented
    spread = get(server, "/v1/metrics/v1?by=is_premium&limit=0.05")["segments"]["spreads"]["accuracy"]
    assert (spread["verdict"], spread["lowest"], spread["highest"]) == ("BEYOND", "false", "true")
    assert spread["difference_low"] < spread["difference"] < spread["difference_high"]
    assert get(server, "/v1/metrics/v2?by=is_premium")["segments"]["levels"] == []


def test_a_candidate_that_is_worse_for_some_is_taken_back_though_all_together_like_it(models: object) -> None:
    """Rewards of v2 are as high as those of v1, but nobody with `is_premium` has any."""
    features = json.dumps({"is_premium": {}})
    with serving(environment={"SHOKADO_WORKERS": "2", "SHOKADO_SEGMENTS__FEATURES": features}) as server:
        rails = [{"metric": "reward", "margin": 0.1, "by": "is_premium"}]
        plan = {"metric": "latency", "smallest_effect": 1000, "guardrails": rails, "max_duration_s": 8000}
        experiment = begin(server, split={"strategy": "hash"}, **plan)
        begun = get(server, f"/v1/experiments/{experiment}")["plan"]["guardrails"]
        assert [(one["by"], one["level"]) for one in begun] == [("is_premium", "false"), ("is_premium", "true")]
        entries = []
        for unit in range(400):
            premium = unit % 2
            row = [*ROW[:7], premium, *ROW[8:]]
            body = {"instances": [row], "user_id": f"user-{unit}"}
            answer = http.post(f"{server.url}/v1/models/predict", json=body, timeout=20).json()
            value = 0.5 if answer["version"] == "v1" else 1.0 - premium
            entries.append({"prediction_id": answer["prediction_id"], "reward": value})
        assert http.post(f"{server.url}/v1/feedback", json=entries, timeout=20).json()["accepted"] == 400
        found = ended(server, experiment)
        assert found["verdict"] == "ROLLBACK", found["reason"]
        assert "a guardrail is broken: reward of is_premium true worse by 0.5" in found["reason"]


def test_of_another_server_with_other_levels_nothing_is_taken_for_them(models: object, tmp_path: Path) -> None:
    """A server over the same store, set up otherwise, reads the ids, and counts them for no level."""
    store, secret = f"sqlite:///{tmp_path}/store.db", tmp_path / "secret"
    secret.write_bytes(bytes(range(32)))
    secret.chmod(0o600)
    common = {"SHOKADO_WORKERS": "1", "SHOKADO_STORE": store, "SHOKADO_FEEDBACK__SECRET_FILE": str(secret)}
    body = {"instances": [ROW], "version": "v1"}
    with serving(environment=common | {"SHOKADO_SEGMENTS__FEATURES": '{"age": {"cuts": [30]}}'}) as server:
        made = http.post(f"{server.url}/v1/models/predict", json=body, timeout=20).json()["prediction_id"]
    with serving(environment=common | {"SHOKADO_SEGMENTS__FEATURES": '{"age": {"cuts": [31]}}'}) as server:
        entry = {"prediction_id": made, "label": 1}
        assert http.post(f"{server.url}/v1/feedback", json=entry, timeout=20).json()["accepted"] == 1
        found = get(server, "/v1/metrics/v1?by=age")
        assert (found["quality"]["labels"], found["segments"]["levels"]) == (1, [])
