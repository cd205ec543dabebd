"""Explanations by a real server: as predictions are asked for, adding up, and in no figure of predictions."""

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runners.artefacts.card import read_card
from runners.engines.engine import likely_rows
from shokado.client import Client, Conflict
from shokado.lifecycle.datasets import CUSTOMERS_FEATURES
from tests.support import http
from tests.support.backgrounds import with_rows
from tests.support.server import ROW, Server, serving
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

NAMES = [feature.name for feature in CUSTOMERS_FEATURES]
SETTINGS = {"SHOKADO_WORKERS": "1", "SHOKADO_EXPLANATIONS__SHARE": "1", "SHOKADO_EXPLANATIONS__MAX_ROWS": "3"}


@pytest.fixture(scope="module")
def home(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model store whose `customers:v2` has a background."""
    folder = tmp_path_factory.mktemp("home")
    shutil.copytree(models / "models" / "customers", folder / "models" / "customers")
    give_background(folder)
    return folder


def give_background(home: Path, rows: int | None = 100) -> None:
    artefact = home / "models" / "customers" / "v2"
    card = read_card(artefact)
    with_rows(artefact, card, None if rows is None else likely_rows(card, rows))


@pytest.fixture(scope="module")
def explaining(home: Path) -> Iterator[Server]:
    with serving(environment={**SETTINGS, "BENTOML_HOME": str(home)}) as server:
        yield server


def ask(
    server: Server,
    body: Any,
    path: str = "/v1/models/explain",
    status: int = 200,
    headers: dict[str, str] | None = None,
) -> Any:
    answer = http.post(f"{server.url}{path}", json=body, headers=headers, timeout=60)
    assert answer.status_code == status, answer.text
    return answer.json()


def logistic(margin: float) -> float:
    return float(1 / (1 + np.exp(-margin)))


def check(answer: Any, scores: list[float]) -> None:
    """It adds up, and is about these scores."""
    for row, score in zip(answer["explanations"], scores, strict=True):
        assert row["prediction"] == score
        assert list(row["contributions"]) == NAMES
        total = answer["base"] + sum(row["contributions"].values())
        assert total == pytest.approx(row["explained"], rel=1e-5, abs=1e-6)
        implied = logistic(total) if answer["scale"] == "margin" else total
        assert implied == pytest.approx(score, abs=1e-4)


@pytest.mark.parametrize("path", ["/v1/models/explain", "/v1/models/explain?over=asgi"])
def test_xgboost_explains_itself_and_all_else_is_sampled(path: str, explaining: Server) -> None:
    rows = [ROW, dict(zip(NAMES, ROW, strict=True)), [*ROW[:1], 120_000.0, *ROW[2:]]]
    for version, method, scale in (("v1", "trees", "margin"), ("v2", "sampled", "probability")):
        body = {"instances": rows, "version": version}
        predicted = ask(explaining, body, "/v1/models/predict")
        answer = ask(explaining, body, path)
        check(answer, predicted["predictions"])
        assert (answer["method"], answer["scale"]) == (method, scale)
        assert answer["classes"] == predicted["classes"]
        assert (answer["version"], answer["reason"]) == (version, "PINNED")
        assert ("standard_errors" in answer["explanations"][0]) == (method == "sampled")
        assert answer.get("background_rows") == (100 if method == "sampled" else None)
        assert answer.get("link") == ("logistic" if method == "trees" else None)
        first, named, other = answer["explanations"]
        assert first == named
        assert first["contributions"]["income"] != other["contributions"]["income"]


def test_a_row_is_assigned_as_a_prediction_is(explaining: Server) -> None:
    pinned = {"X-Model-Version": "v2", "X-Request-ID": "mine"}
    by_header = ask(explaining, {"instances": [ROW]}, headers=pinned)
    assert (by_header["version"], by_header["request_id"]) == ("v2", "mine")
    drawn = {ask(explaining, {"instances": [ROW]})["version"] for _ in range(60)}
    assert drawn == {"v1", "v2"}


def test_errors_are_those_of_predictions(explaining: Server) -> None:
    bad = [*ROW[:2], "much", *ROW[3:]]
    fault = ask(explaining, {"instances": [ROW, bad], "version": "v1"}, status=422)["error"]
    predicted = ask(explaining, {"instances": [ROW, bad], "version": "v1"}, "/v1/models/predict", status=422)["error"]
    assert fault == predicted
    assert (fault["detail"]["row"], fault["detail"]["feature"]) == (1, NAMES[2])
    many = ask(explaining, {"instances": [ROW] * 4}, status=413)["error"]
    assert (many["code"], many["detail"]["limit"]) == ("too_many_rows", 3)
    assert ask(explaining, {"instances": [ROW], "version": "v9"}, status=404)["error"]["code"] == "unknown_version"
    late = http.post(
        f"{explaining.url}/v1/models/explain",
        json={"instances": [ROW] * 3, "version": "v2"},
        headers={"X-Request-Deadline-Ms": "0.01"},
        timeout=60,
    )
    assert late.status_code in (503, 504)
    wrong = http.get(f"{explaining.url}/v1/models/explain", timeout=20)
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "OPTIONS, POST")


def test_explanations_are_in_no_figure_of_predictions(home: Path) -> None:
    give_background(home)
    with serving(environment={**SETTINGS, "BENTOML_HOME": str(home)}) as server, Client(server.url) as client:

        def figures() -> tuple[float, int]:
            versions = http.get(f"{server.url}/ab-test/status", timeout=20).json()["versions"]
            return server.metric("shokado_requests_total", version="v2"), versions["v2"]["requests"]

        client.predict([ROW], version="v2")
        wait_until(lambda: figures() == (1, 1))
        for _ in range(5):
            client.explain([ROW], version="v2")
        wait_until(lambda: server.metric("shokado_explained_rows_total", version="v2", outcome="explained") == 5)
        client.predict([ROW], version="v2")
        wait_until(lambda: figures() == (2, 2))
        assert server.metric("shokado_explanation_scored_rows_total", version="v2") > 5 * 1000


def test_the_client_reads_the_answer(explaining: Server) -> None:
    with Client(explaining.url) as client:
        found = client.explain(np.array([ROW], dtype=np.float32), version="v2")
        (row,) = found.explanations
        assert found.base + sum(row.contributions.values()) == pytest.approx(row.prediction, abs=1e-6)
        assert row.standard_errors is not None
        assert row.standard_errors.keys() == row.contributions.keys()


def test_a_version_without_background_takes_one_as_it_comes(home: Path) -> None:
    give_background(home, None)
    with serving(environment={**SETTINGS, "BENTOML_HOME": str(home)}) as server, Client(server.url) as client:
        assert client.explain([ROW], version="v1").method == "trees"
        with pytest.raises(Conflict, match=r"shokado models reference customers:v2 <file of rows>") as refused:
            client.explain([ROW], version="v2")
        assert refused.value.code == "not_explainable"
        give_background(home)
        assert client.explain([ROW], version="v2").method == "sampled"


def test_what_is_too_much_is_refused_with_when_to_come_back_and_predictions_go_on(home: Path) -> None:
    give_background(home)
    crowded = {**SETTINGS, "SHOKADO_EXPLANATIONS__SHARE": "0.02", "SHOKADO_EXPLANATIONS__MAX_QUEUE_REQUESTS": "1"}
    with serving(environment={**crowded, "BENTOML_HOME": str(home)}) as server:

        def explain(_: int) -> Any:
            body = {"instances": [ROW] * 3, "version": "v2"}
            return http.post(f"{server.url}/v1/models/explain", json=body, timeout=120)

        with ThreadPoolExecutor(6) as threads:
            answers = threads.map(explain, range(6))
            for _ in range(20):
                ask(server, {"instances": [ROW], "version": "v2"}, "/v1/models/predict")
            statuses = []
            for answer in answers:
                statuses.append(answer.status_code)
                if answer.status_code == 503:
                    assert answer.json()["error"]["code"] == "overloaded"
                    assert int(answer.headers["retry-after"]) >= 1
        assert set(statuses) == {200, 503}
        refused = statuses.count(503)
        wait_until(lambda: server.metric("shokado_refused_explanations_total") == refused)
        wait_until(lambda: server.metric("shokado_explanation_seconds_count", version="v2") == 6 - refused)


def test_versions_with_a_service_of_their_own_are_explained_by_the_gateway(home: Path) -> None:
    give_background(home)
    placed = {"SHOKADO_VERSIONS__V1__PLACEMENT": "service", "SHOKADO_VERSIONS__V2__PLACEMENT": "service"}
    with serving(environment={**SETTINGS, **placed, "BENTOML_HOME": str(home)}) as server:
        for version, method in (("v1", "trees"), ("v2", "sampled")):
            body = {"instances": [ROW, ROW], "version": version}
            answer = ask(server, body)
            assert answer["method"] == method
            check(answer, ask(server, body, "/v1/models/predict")["predictions"])
