"""Features by entity, by a real server, a real transformer and a real Feast, with SQLite and with Redis."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest
import yaml

from shokado.client import Client
from shokado.lifecycle.datasets import CUSTOMERS_FEATURES
from shokado.lifecycle.examples.feature_repo.message_numbers import NUMBERS, numbers_of
from tests.browser.paper_server import stored
from tests.end_to_end.closed_loop import load
from tests.support.feature_store import RunningTransformer, example_repository, transforming
from tests.support.raw_http import request
from tests.support.redis_server import RedisServer, needs_redis
from tests.support.server import Server, serving
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

NAMES = [feature.name for feature in CUSTOMERS_FEATURES]
UNKNOWN = 10**9
"""Nobody's id."""
PREDICT = "/v1/models/predict"


def configured(folder: Path, name: str, url: str, model: str = "customers", **features: Any) -> dict[str, str]:
    """The environment of a server with one worker that asks that transformer."""
    usual = {"url": url, "entities": {"customer_id": "integer"}, "timeout_ms": 20_000, "connect_ms": 20_000}
    content = {
        "model": model,
        "workers": 1,
        "versions": {"v1": {}, "v2": {}},
        "environments": {"production": {"active": "v1", "weights": {"v1": 50, "v2": 50}, "strategy": "hash"}},
        "features": {**usual, **features},
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content))
    return {"SHOKADO_CONFIG": str(path)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("features")


@pytest.fixture(scope="module")
def customers(folder: Path) -> pd.DataFrame:
    return example_repository(folder / "repo")


@pytest.fixture(scope="module")
def transformer(folder: Path, customers: pd.DataFrame) -> Iterator[RunningTransformer]:
    with transforming(folder / "repo", "customers") as running:
        yield running


@pytest.fixture(scope="module")
def asking(models: Path, folder: Path, transformer: RunningTransformer) -> Iterator[Server]:
    with serving(environment=configured(folder, "asking", transformer.url, unit="customer_id")) as server:
        yield server


def row_of(customers: pd.DataFrame, customer_id: int) -> dict[str, Any]:
    return {name: customers.loc[customer_id, name].item() for name in NAMES}


def ask(server: Server, path: str, body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Any:
    with httpx.Client(base_url=server.url, timeout=60) as client:
        answer = client.post(path, json=body, headers=headers)
    assert answer.status_code == status, answer.text
    return answer.json()


ROUTES: dict[str, tuple[str, Callable[[Any], list[float]]]] = {
    PREDICT: ("instances", lambda answer: answer["predictions"]),
    f"{PREDICT}?plain": ("instances", lambda answer: answer["predictions"]),
    "/v1/models/v2:predict": ("instances", lambda answer: answer["predictions"]),
    "/batch_predict": ("instances", lambda answer: [one["prediction"] for one in answer["predictions"]]),
    "/predict/batch": ("instances", lambda answer: [one["prediction"] for one in answer["predictions"]]),
    "/predict": ("features", lambda answer: [answer["prediction"]]),
    "/predict?plain": ("features", lambda answer: [answer["prediction"]]),
    "/api/v1/predictions": ("features", lambda answer: [answer["prediction"]]),
    "/api/v1/ab/predictions": ("features", lambda answer: [answer["prediction"]]),
    "/api/v1/models/v2/predictions": ("features", lambda answer: [answer["prediction"]]),
    "/v1/models/explain": ("instances", lambda answer: [one["prediction"] for one in answer["explanations"]]),
}
"""Each route that takes entities: where it has rows, and how its scores are found. A query takes BentoML's way in."""


@pytest.mark.parametrize("path", ROUTES)
def test_every_route_scores_an_entity_as_it_scores_its_row(asking: Server, customers: pd.DataFrame, path: str) -> None:
    field, scores = ROUTES[path]
    headers = {"X-Unit-ID": "the same"}
    row, entity = row_of(customers, 17), {"customer_id": 17}
    by_row = ask(asking, path, {field: row if field == "features" else [row]}, headers=headers)
    assert scores(ask(asking, path, {"entities": entity}, headers=headers)) == scores(by_row)
    given = {**row, "age": 80.0}
    by_row = ask(asking, path, {field: given if field == "features" else [given]}, headers=headers)
    partly = {"age": 80.0}
    body = {"entities": entity, field: partly if field == "features" else [partly]}
    assert scores(ask(asking, path, body, headers=headers)) == scores(by_row), "what is given wins"


def test_each_row_has_its_own_entity(asking: Server, customers: pd.DataFrame) -> None:
    ids = [5, 900, 5, 1]
    rows = [row_of(customers, one) for one in ids]
    expected = ask(asking, PREDICT, {"instances": rows, "version": "v2"})["predictions"]
    entities = [{"customer_id": one} for one in ids]
    assert ask(asking, PREDICT, {"entities": entities, "version": "v2"})["predictions"] == expected


def test_a_customer_without_features_is_answered_424_with_its_id_and_the_feature(asking: Server) -> None:
    body = {"entities": [{"customer_id": 1}, {"customer_id": UNKNOWN}]}
    error = ask(asking, PREDICT, body, 424)["error"]
    assert error["code"] == "feature_missing"
    assert error["message"] == f"row 1: the feature store has no 'age' of customer_id={UNKNOWN}"
    assert error["detail"] == {"row": 1, "feature": "age", "entity": {"customer_id": UNKNOWN}}
    told = ask(asking, "/v1/models/customers:predict", body, 424)
    assert told == {"error": error["message"]}
    wait_until(lambda: asking.metric("shokado_feature_lacks_total", lack="missing", defaulted="false") >= 10)
    assert asking.metric("shokado_errors_total", kind="feature_missing", fault="server") >= 1


def test_a_request_sticks_to_its_customer(asking: Server) -> None:
    answers = [ask(asking, PREDICT, {"entities": {"customer_id": one}}) for one in (*range(1, 31), *range(1, 31))]
    versions = [answer["version"] for answer in answers]
    assert versions[:30] == versions[30:]
    assert set(versions) == {"v1", "v2"}
    assert {answer["reason"] for answer in answers} == {"STICKY"}
    by_unit = [
        ask(asking, PREDICT, {"entities": {"customer_id": 1}, "unit": str(one)})["version"] for one in range(1, 31)
    ]
    assert by_unit == versions[:30], "a unit that is named comes first, and sticks as the customer of that id does"


def test_requests_of_many_clients_travel_together_and_ages_are_told(asking: Server, customers: pd.DataFrame) -> None:
    before = asking.metric("shokado_feature_call_seconds_count")
    answered = asking.metric("shokado_requests_total")

    def body(number: int) -> bytes:
        return request(json.dumps({"entities": {"customer_id": 1 + number % 1000}}).encode())

    with load(asking, 16, body) as clients:
        clients.wait_for_answers(300)
    assert {answer.status for answer in clients.answers} == {200}
    assert clients.lost == 0
    wait_until(lambda: asking.metric("shokado_requests_total") >= answered + len(clients.answers))
    assert asking.metric("shokado_feature_call_seconds_count") - before < len(clients.answers)
    hours = asking.metric("shokado_feature_age_seconds_sum", feature="age") / 3600
    count = asking.metric("shokado_feature_age_seconds_count", feature="age")
    assert 0 < hours / count < 14, "the example's rows were true within the last twelve hours"


def test_without_its_transformer_a_server_answers_what_names_no_entity_and_recovers(
    models: Path, folder: Path, customers: pd.DataFrame
) -> None:
    row = row_of(customers, 17)
    quick: dict[str, Any] = {"timeout_ms": 500, "connect_ms": 500, "cache_ttl_s": 0, "eject_for_s": 0.2}
    with (
        transforming(folder / "repo", "customers") as running,
        serving(environment=configured(folder, "strict", running.url, **quick)) as server,
    ):
        (expected,) = ask(server, PREDICT, {"instances": [row], "version": "v1"})["predictions"]
        by_entity = {"entities": {"customer_id": 17}, "version": "v1"}
        answered = {"entities": {"customer_id": 17}, "instances": [row], "version": "v1"}
        wait_until(lambda: ask_status(server, by_entity) == 200)
        assert running.process is not None
        for end, begin in ((running.kill, running.start), _paused(running)):
            end()
            for _ in range(8):
                refused = http_post(server, by_entity)
                assert (refused.status_code, refused.json()["error"]["code"]) == (424, "features_unavailable")
                assert refused.headers["retry-after"] == "1"
            assert ask(server, PREDICT, {"instances": [row], "version": "v1"})["predictions"] == [expected]
            assert ask(server, PREDICT, answered)["predictions"] == [expected], "nothing of it had to be looked up"
            begin()
            wait_until(lambda: ask_status(server, by_entity) == 200)
            assert ask(server, PREDICT, by_entity)["predictions"] == [expected]
        wait_until(lambda: server.metric("shokado_feature_lookups_total", outcome="ejected") > 0)


def _paused(running: RunningTransformer) -> Any:
    """It keeps its connections, and answers none."""
    return lambda: os.kill(running.process.pid, signal.SIGSTOP), lambda: os.kill(running.process.pid, signal.SIGCONT)  # type: ignore[union-attr]


def http_post(server: Server, body: Any) -> httpx.Response:
    with httpx.Client(base_url=server.url, timeout=60) as client:
        return client.post(PREDICT, json=body)


def ask_status(server: Server, body: Any) -> int:
    return http_post(server, body).status_code


def test_defaults_stand_in_where_that_is_the_policy(
    models: Path, folder: Path, customers: pd.DataFrame, transformer: RunningTransformer
) -> None:
    defaults = row_of(customers, 3)
    policy: dict[str, Any] = {"when_missing": "default", "when_unavailable": "default", "defaults": defaults}
    with serving(environment=configured(folder, "lenient", transformer.url, **policy)) as server:
        expected = ask(server, PREDICT, {"instances": [{**defaults, "age": 50}], "version": "v2"})["predictions"]
        body = {"entities": {"customer_id": UNKNOWN}, "instances": [{"age": 50}], "version": "v2"}
        assert ask(server, PREDICT, body)["predictions"] == expected
        wait_until(lambda: server.metric("shokado_feature_lacks_total", lack="missing", defaulted="true") == 9)
    with serving(environment=configured(folder, "away", "unix:/nowhere/features.sock", **policy)) as server:
        assert ask(server, PREDICT, body)["predictions"] == expected


def test_a_deadline_is_kept_while_features_are_looked_up(models: Path, folder: Path, customers: pd.DataFrame) -> None:
    with transforming(folder / "repo", "customers") as running:
        os.kill(running.process.pid, signal.SIGSTOP)  # type: ignore[union-attr]
        with serving(environment=configured(folder, "late", running.url)) as server:
            body = {"entities": {"customer_id": 17}}
            error = ask(server, PREDICT, body, 504, {"X-Request-Deadline-Ms": "100"})["error"]
            assert error["code"] == "deadline_exceeded"


@needs_redis
def test_redis_holds_what_production_looks_up(models: Path, folder: Path, tmp_path: Path) -> None:
    with RedisServer(tmp_path / "redis") as redis:
        store = {"type": "redis", "connection_string": f"127.0.0.1:{redis.port}"}
        customers = example_repository(tmp_path / "repo", store)
        socket = f"unix:{tmp_path}/f.sock"
        with (
            transforming(tmp_path / "repo", "customers", socket) as running,
            serving(environment=configured(folder, "redis", running.url, cache_ttl_s=0)) as server,
        ):
            rows = [row_of(customers, one) for one in (1, 500, 1000)]
            expected = ask(server, PREDICT, {"instances": rows, "version": "v1"})["predictions"]
            body = {"entities": [{"customer_id": one} for one in (1, 500, 1000)], "version": "v1"}
            assert ask(server, PREDICT, body)["predictions"] == expected
            redis.kill()
            assert ask(server, PREDICT, body, 424)["error"]["code"] == "features_unavailable"
            with running.client() as client:
                wait_until(lambda: client.get("/readyz").status_code == 503)
            redis.start()
            wait_until(lambda: ask_status(server, body) == 200)
            assert ask(server, PREDICT, body)["predictions"] == expected


NUMBERS_CARD: Any = {
    "features": [{"name": name} for name in NUMBERS],
    "examples": {"rows": [[1.0] * len(NUMBERS), [2.0] * len(NUMBERS)], "scores": [0.25, 0.75]},
}
TEXT = "WIN a prize!! see http://prize.example or www.prize.example, 100 % FREE"


def test_a_text_becomes_the_numbers_that_a_model_takes(models: Path, folder: Path, customers: pd.DataFrame) -> None:
    """As training makes them, by the same function."""
    for version in ("v1", "v2"):
        stored(version, "numbers", NUMBERS_CARD)
    with transforming(folder / "repo", "messages") as running:
        entities = {"text": "text"}
        environment = configured(folder, "messages", running.url, "numbers", entities=entities)
        with serving(environment=environment) as server:
            texts = [TEXT, "", "see you at 5"]
            rows = numbers_of(pd.Series(texts))[list(NUMBERS)].to_dict(orient="records")
            expected = ask(server, PREDICT, {"instances": rows, "version": "v1"})["predictions"]
            body = {"entities": [{"text": text} for text in texts], "version": "v1"}
            assert ask(server, PREDICT, body)["predictions"] == expected
            assert len(set(expected)) == 3
            one = ask(server, "/predict", {"entities": {"text": TEXT}, "model_version": "v1"})
            assert one["prediction"] == expected[0]


def test_the_client_names_entities(asking: Server, customers: pd.DataFrame) -> None:
    with Client(asking.url) as client:
        by_row = client.predict([row_of(customers, 17)], version="v1")
        assert client.predict(entities=[{"customer_id": 17}], version="v1").predictions == by_row.predictions
        given = client.predict([{"age": 80}, {}], entities={"customer_id": 17}, version="v1")
        assert given.predictions[1] == by_row.predictions[0] != given.predictions[0]
