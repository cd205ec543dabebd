"""The Open Inference Protocol's routes beside predictions: what there is, what it takes, and whether it is ready."""

from typing import Any

import pytest

from shokado import __version__
from tests.control.site import Site

V2 = "/v2/models"


def test_the_server_says_what_it_is_before_the_worker_has_started(site: Site) -> None:
    site.workers[0].control.parts = None
    extensions = ["binary_tensor_data", "classification", "model_repository"]
    assert site.get("/v2") == {"name": "shokado", "version": __version__, "extensions": extensions}
    assert site.get("/v2/health/live") == {"live": True}
    starting = site.ask("GET", "/v2/health/ready")
    assert (starting.status_code, starting.json()) == (503, {"error": "the server is starting"})


@pytest.mark.parametrize(
    ("path", "versions"),
    [
        ("paper", ["v1", "v2", "v3"]),
        ("v2", ["v2"]),
        ("b", ["v2"]),
        ("paper/versions/b", ["v2"]),
        ("a/versions/v1", ["v1"]),
    ],
)
def test_a_model_is_the_configured_one_a_version_or_an_alias(site: Site, path: str, versions: list[str]) -> None:
    content = site.get(f"{V2}/{path}")
    assert (content["name"], content["versions"]) == (path.split("/", maxsplit=1)[0], versions)
    card = site.workers[0].dispatcher.runners["v1"].card
    assert content["inputs"] == [{"name": "input", "datatype": "FP32", "shape": [-1, len(card.features)]}]
    assert content["outputs"][0] == {"name": "predictions", "datatype": "FP32", "shape": [-1]}
    assert site.get(f"{V2}/{path}/ready") == {"name": content["name"], "ready": True}


@pytest.mark.parametrize(
    ("path", "status"), [("cats", 404), ("paper/versions/v9", 404), ("v9/versions/v1", 404), ("v1/versions/v2", 400)]
)
def test_an_unknown_name_is_an_error_of_the_protocol(site: Site, path: str, status: int) -> None:
    for route in (path, f"{path}/ready"):
        answer = site.ask("GET", f"{V2}/{route}")
        assert answer.status_code == status
        assert isinstance(answer.json()["error"], str)


def test_a_version_that_is_not_ready_takes_the_model_with_it_when_it_has_traffic(empty_site: Site) -> None:
    empty_site.join(broken=frozenset({"v2"}))
    asked: dict[str, Any] = {}
    for path in ("/health/ready", "/models/paper/ready", "/models/v1/ready", "/models/paper/versions/v2/ready"):
        answer = empty_site.ask("GET", f"/v2{path}")
        asked[path] = (answer.status_code, answer.json()["ready"])
    assert list(asked.values()) == [(503, False), (503, False), (200, True), (503, False)]
    index = empty_site.post("/v2/repository/index", {}).json()
    assert {entry["version"]: entry["state"] for entry in index} == {
        "v1": "READY", "v2": "UNAVAILABLE", "v3": "READY",
    }  # fmt: skip
    assert next(entry["reason"] for entry in index if entry["version"] == "v2")
    only_ready = empty_site.post("/v2/repository/index", {"ready": True}).json()
    assert [entry["version"] for entry in only_ready] == ["v1", "v3"]


def test_the_index_needs_no_body_and_refuses_one_that_it_cannot_read(site: Site) -> None:
    assert len(site.ask("POST", "/v2/repository/index").json()) == 3
    answer = site.ask("POST", "/v2/repository/index", content=b"{", headers={"content-type": "application/json"})
    assert (answer.status_code, isinstance(answer.json()["error"], str)) == (400, True)


REPOSITORY = "/v2/repository/models"


def test_a_version_is_unloaded_through_the_repository(site: Site) -> None:
    """With the body of Triton's clients, who do not say its content type."""
    answer = site.ask("POST", f"{REPOSITORY}/v3/unload", content=b'{"parameters": {"unload_dependents": false}}')
    assert (answer.status_code, answer.json()) == (200, {}), answer.text
    index = site.post("/v2/repository/index", {}).json()
    assert {entry["version"]: entry["state"] for entry in index}["v3"] == "UNAVAILABLE"


@pytest.mark.parametrize(
    ("path", "parameters", "status", "said"),
    [
        ("paper/load", {}, 422, "v1, v2, v3"),
        ("paper/unload", {}, 422, "v1, v2, v3"),
        ("v9/load", {}, 404, "v9"),
        ("a/load", {}, 422, "alias"),
        ("v1/unload", {}, 409, "v1"),
        ("v4/load", {"uri": "s3://bucket/model.pkl"}, 422, "cannot be loaded"),
        ("v3/load", {"config": "{}"}, 422, "parameters.config: unknown field"),
        ("v3/unload", {"force": True}, 422, "parameters.force: unknown field"),
    ],
)
def test_what_the_repository_refuses_is_an_error_of_the_protocol(
    site: Site, path: str, parameters: dict[str, Any], status: int, said: str
) -> None:
    answer = site.post(f"{REPOSITORY}/{path}", {"parameters": parameters})
    assert answer.status_code == status
    assert said in answer.json()["error"]
    assert site.get("/v1/traffic-split")["generation"] == 1
