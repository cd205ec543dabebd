"""Clients that people have: BentoML's own, and plain HTTP for everything that is not a prediction."""

import asyncio
from datetime import datetime
from typing import Any

import bentoml
import numpy as np
import pytest

from tests.dialects.cases import NAMED
from tests.support import http
from tests.support.raw_http import Connection, near, rows_request
from tests.support.server import ROW, Server


@pytest.fixture(scope="module")
def score(server: Server) -> Any:
    with Connection(server) as connection:
        return near(connection.ask(rows_request()).json["predictions"][0])


@pytest.fixture(params=["server", "plain_server", "service_server"])
def any_server(request: pytest.FixtureRequest) -> Server:
    found: Server = request.getfixturevalue(request.param)
    return found


def test_the_synchronous_client_of_bentoml_predicts(any_server: Server, score: Any) -> None:
    with bentoml.SyncHTTPClient(any_server.url) as client:
        assert client.is_ready()
        answer = client.predict(instances=[ROW, NAMED], version="v1")
        assert answer["predictions"] == [score, score]
        assert answer["version"] == "v1"
        answer = client.predict_one(features=NAMED, model_version="v1")
        assert answer["prediction"] == score
        assert client.predict(instances=[ROW])["reason"] == "SPLIT"
        assert client.predict_one(features=ROW, use_ab_testing=False)["model_version"] == "v1"


def test_the_asynchronous_client_of_bentoml_predicts(server: Server, score: Any) -> None:
    async def use() -> tuple[Any, Any]:
        async with bentoml.AsyncHTTPClient(server.url) as client:
            one = await client.predict_one(features=ROW, model_version="v1")
            many = await asyncio.gather(*(client.predict(instances=[ROW], version="a") for _ in range(20)))
            return one, many

    one, many = asyncio.run(use())
    assert one["prediction"] == score
    assert [answer["predictions"] for answer in many] == [[score]] * 20


POSTED_TO = {"predict", "explain", "feedback"}
ARRAY = np.array([ROW, ROW], np.float32)
ARRAYS = {
    "float32": ARRAY,
    "float64": ARRAY.astype(np.float64),
    "arrays in a list": list(ARRAY),
    "scalars in lists": [list(row) for row in ARRAY],
    "an array and an object": [ARRAY[0], NAMED],
    "an object of plain values": [
        {name: value.item() for name, value in zip(NAMED, row, strict=True)} for row in ARRAY
    ],
}


@pytest.mark.parametrize("rows", ARRAYS.values(), ids=ARRAYS)
def test_a_client_of_bentoml_sends_arrays_and_scalars(server: Server, score: Any, rows: Any) -> None:
    async def ask() -> Any:
        async with bentoml.AsyncHTTPClient(server.url) as client:
            return await client.predict(instances=rows, version="v1")

    assert asyncio.run(ask())["predictions"] == [score, score]
    with bentoml.SyncHTTPClient(server.url) as client:
        assert client.predict(rows, version="v1")["predictions"] == [score, score]
        batch = client.predict_batch(instances=rows, model_version="v1")
        assert [item["prediction"] for item in batch["predictions"]] == [score, score]
        assert client.predict_one(features=rows[0], model_version="v1")["prediction"] == score


@pytest.mark.parametrize("name", ["unit", "user_id", "request_id"])
def test_a_client_of_bentoml_says_the_unit_by_argument(server: Server, name: str) -> None:
    with bentoml.SyncHTTPClient(server.url) as client:
        calls = [(client.predict, [ROW]), (client.predict_batch, [ROW]), (client.predict_one, ROW)]
        for call, rows in calls:
            assert call(rows, **{name: "customer-1"})
            assert call(rows, **{name: 17})
            with pytest.raises(bentoml.exceptions.BentoMLException, match="the unit has 300 characters"):
                call(rows, **{name: "u" * 300})


def test_what_a_client_of_bentoml_cannot_send_is_an_error(server: Server) -> None:
    """As docs/dialects.md says; when one of these works, it may say less."""
    with bentoml.SyncHTTPClient(server.url) as client:
        with pytest.raises(TypeError, match="float32 is not JSON serializable"):
            client.predict(instances=[dict(zip(NAMED, ARRAY[0], strict=True))])
        with pytest.raises(TypeError, match="int64 is not JSON serializable"):
            client.predict(instances=[ROW], user_id=np.int64(7))
        with pytest.raises(bentoml.exceptions.BentoMLException, match="row 0 is the text 'age'"):
            client.predict(instances=dict(NAMED))
        with pytest.raises(bentoml.exceptions.BentoMLException, match="feature 'age': the value is NaN"):
            client.predict(instances=ARRAY * np.float32("nan"))


def test_a_client_of_bentoml_is_told_what_is_wrong(server: Server) -> None:
    with (
        bentoml.SyncHTTPClient(server.url) as client,
        pytest.raises(bentoml.exceptions.BentoMLException, match="row 0 has 2 values"),
    ):
        client.predict(instances=[[1.0, 2.0]])


def test_all_versions_are_listed_with_their_share(any_server: Server) -> None:
    content = http.get(f"{any_server.url}/v1/models", timeout=20).json()
    assert [version["version"] for version in content["versions"]] == ["v1", "v2"]
    assert {version["state"] for version in content["versions"]} == {"ready"}
    weights = {version["version"]: version["weights"] for version in content["versions"]}
    assert weights == {"v1": {"production": 0.8, "staging": 0.0}, "v2": {"production": 0.2, "staging": 1.0}}


@pytest.mark.parametrize(("name", "version"), [("v1", "v1"), ("a", "v1"), ("b", "v2")])
def test_a_version_is_found_by_name_and_by_alias(server: Server, name: str, version: str) -> None:
    content = http.get(f"{server.url}/v1/models/{name}", timeout=20).json()
    assert content["version"] == version
    assert [feature["name"] for feature in content["signature"]["features"]] == list(NAMED)


@pytest.mark.parametrize("path", ["/v1/models/v9", "/nothing", "/v1", "/docs/x", "/static_content"])
def test_what_is_not_there_is_404_in_the_common_shape(any_server: Server, path: str) -> None:
    answer = http.get(any_server.url + path, timeout=20, headers={"x-request-id": "mine"})
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] in {"not_found", "unknown_version"}
    assert answer.json()["request_id"] == answer.headers["x-request-id"] == "mine"


@pytest.mark.parametrize("path", ["/v1/models", "/livez", "/metrics"])
def test_the_wrong_method_is_405_and_says_which_are_right(server: Server, path: str) -> None:
    answer = http.delete(server.url + path, timeout=20)
    assert (answer.status_code, answer.json()["error"]["code"]) == (405, "method_not_allowed")
    assert "GET" in answer.headers["allow"]


@pytest.mark.parametrize("path", ["/readyz", "/health", "/ready"])
def test_a_ready_server_says_so_and_for_which_versions(any_server: Server, path: str) -> None:
    answer = http.get(any_server.url + path, timeout=20)
    assert answer.status_code == 200
    content = answer.json()
    assert content.pop("store")["status"] == "ok"
    if path == "/health":
        assert (content.pop("model_loaded"), content.pop("model_version")) == (True, "v1")
        assert datetime.fromisoformat(content.pop("timestamp")).tzinfo is not None
    said = "healthy" if path == "/health" else "ok"
    assert content == {"status": said, "versions": {"v1": "ready", "v2": "ready"}, "generation": 1}


PAGES = {
    "/livez": "application/json",
    "/readyz": "application/json",
    "/": "application/json",
    "/v1/models": "application/json",
    "/v1/models/v1": "application/json",
    "/openapi.json": "application/json",
    "/schema.json": "application/json",
    "/docs": "text/html; charset=utf-8",
    "/static_content/swagger-ui.css": "text/css; charset=utf-8",
}


@pytest.mark.parametrize("path", PAGES)
def test_every_page_answers_with_its_type_and_without_a_server_name(any_server: Server, path: str) -> None:
    answer = http.get(any_server.url + path, timeout=20)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == PAGES[path]
    assert "server" not in answer.headers
    assert not [name for name in answer.headers if "bentoml" in name]


def test_the_index_leads_to_pages_that_exist(server: Server) -> None:
    links = http.get(server.url, timeout=20).json()["links"]
    for name, path in links.items():
        assert http.get(server.url + path, timeout=20).status_code == (405 if name in POSTED_TO else 200)


@pytest.mark.parametrize("path", ["/ping", "/version", "/model/info", "/v1/models/customers"])
def test_the_pages_of_the_other_dialects_are_there(server: Server, path: str) -> None:
    assert http.get(server.url + path, timeout=20).status_code == 200


def test_a_client_of_bentoml_predicts_batches(any_server: Server, score: Any) -> None:
    with bentoml.SyncHTTPClient(any_server.url) as client:
        answer = client.predict_batch(instances=[NAMED, ROW], model_version="v1")
        assert [item["prediction"] for item in answer["predictions"]] == [score, score]
        assert answer["total"] == 2


@pytest.mark.parametrize(("params", "field"), [(None, "classes"), ({"predict_method": "predict_proba"}, "predictions")])
def test_mlflows_own_client_predicts(server: Server, params: Any, field: str) -> None:
    pandas = pytest.importorskip("pandas", reason="make test installs it")
    client = pytest.importorskip("mlflow.pyfunc.scoring_server.client", reason="make test installs it")
    mlflow = client.ScoringServerClient("127.0.0.1", server.port)
    mlflow.ping()
    other = [value * 1.5 for value in ROW]
    answer = mlflow.invoke(pandas.DataFrame([ROW, other, ROW], columns=list(NAMED)), params=params)
    with Connection(server) as connection:
        asked = [connection.ask(rows_request(ROW, other, ROW, version=version)) for version in ("v1", "v2")]
    given = [row[-1] for row in answer.get_predictions().to_numpy().tolist()]
    assert given in [near(one.json[field]) for one in asked], "those of the version that the split chose"
