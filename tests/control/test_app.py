"""The app as a whole: its description, its errors, its front page."""

import json
from typing import Any

import pytest

from tests.control.site import Site
from tests.support.problems import code_of

PUBLIC = {
    "/": {"get"},
    "/livez": {"get"},
    "/readyz": {"get"},
    "/ready": {"get"},
    "/health": {"get"},
    "/ping": {"get"},
    "/version": {"get"},
    "/metrics": {"get"},
    "/model/info": {"get"},
    "/model/load": {"post"},
    "/models": {"get"},
    "/models/{version}/activate": {"post"},
    "/v1/models": {"get"},
    "/v1/models/{version}": {"get"},
    "/v1/models/{version}/examples": {"get"},
    "/v1/models/{version}/load": {"post"},
    "/v1/models/{version}/unload": {"post"},
    "/v1/traffic-split": {"get", "post", "put"},
    "/v1/traffic-split/history": {"get"},
    "/v1/traffic-split/rollback": {"post"},
    "/v1/traffic-split/explain": {"get"},
    "/v1/traffic-split/preview": {"post"},
    "/v1/traffic-split/preview/recent": {"post"},
    "/v1/dashboard": {"get"},
    "/v1/metrics/{version}": {"get"},
    "/v1/drift/{version}": {"get"},
    "/v1/log": {"get"},
    "/v1/batches": {"get", "post"},
    "/v1/batches/{batch}": {"get"},
    "/v1/batches/{batch}/cancel": {"post"},
    "/v1/feedback": {"post"},
    "/ab-test/status": {"get"},
    "/ab-test/quality": {"get"},
    "/ab-test/configure": {"post"},
    "/v1/experiments": {"get", "post"},
    "/v1/experiments/{experiment}": {"get"},
    "/v1/experiments/{experiment}/effects": {"get"},
    "/v1/experiments/{experiment}/stop": {"post"},
    "/v1/verdict": {"get"},
    "/v1/verdict/confirm-promotion": {"post"},
    "/v1/verdict/rollback": {"post"},
    "/v2": {"get"},
    "/v2/health/live": {"get"},
    "/v2/health/ready": {"get"},
    "/v2/models/{model}": {"get"},
    "/v2/models/{model}/ready": {"get"},
    "/v2/models/{model}/versions/{version}": {"get"},
    "/v2/models/{model}/versions/{version}/ready": {"get"},
    "/v2/repository/index": {"post"},
    "/v2/repository/models/{model}/load": {"post"},
    "/v2/repository/models/{model}/unload": {"post"},
}
ERRORS = {"ProblemBody", "Health", "Healthy", "InferError", "Ready", "ModelReady"}
WITHOUT_A_WORKER = {"/", "/livez", "/version", "/v2", "/v2/health/live"}


@pytest.fixture
def described(site: Site) -> Any:
    return site.get("/openapi.json")


def operations(described: Any) -> list[tuple[str, str, Any]]:
    return [(path, method, found) for path, methods in described["paths"].items() for method, found in methods.items()]


def test_every_route_is_described_under_a_tag_that_is(described: Any) -> None:
    assert {path: set(methods) for path, methods in described["paths"].items()} == PUBLIC
    tags = {tag["name"] for tag in described["tags"]}
    ids = [found["operationId"] for _, _, found in operations(described)]
    assert len(set(ids)) == len(ids)
    for path, method, found in operations(described):
        assert found["summary"], (path, method)
        assert set(found["tags"]) <= tags


def test_every_body_has_an_example_and_every_error_its_shape(described: Any) -> None:
    for path, method, found in operations(described):
        if method != "get":
            assert '"examples"' in json.dumps(found["requestBody"]), path
        for status, answer in found["responses"].items():
            if int(status) >= 400:
                schema = answer["content"]["application/json"]["schema"]
                shapes = [shape["$ref"].rsplit("/", 1)[1] for shape in schema.get("anyOf", [schema])]
                assert set(shapes) <= ERRORS, (path, method, status)
        changing = method != "get"
        assert {"503"} <= found["responses"].keys() or path in WITHOUT_A_WORKER
        assert not changing or {"400", "413", "415", "422"} <= found["responses"].keys(), path


def test_every_reference_in_the_description_leads_somewhere(described: Any) -> None:
    text = json.dumps(described)
    names = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert names <= described["components"]["schemas"].keys()
    assert "$defs" not in text
    assert "HTTPValidationError" not in names


def test_headers_of_changes_are_described(described: Any) -> None:
    for path in ("/v1/traffic-split", "/v1/traffic-split/rollback", "/ab-test/configure", "/models/{version}/activate"):
        named = {parameter["name"] for parameter in described["paths"][path]["post"]["parameters"]}
        assert {"X-Actor", "If-Match", "X-Environment"} <= named


def test_the_front_page_leads_to_what_there_is(site: Site) -> None:
    links = site.get("/")["links"]
    for name, path in links.items():
        if name in {"predict", "explain", "feedback"}:
            assert site.ask("GET", path).status_code in {404, 405}, "it is posted to"
        else:
            assert site.ask("GET", path).status_code == 200, path


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v2/nowhere", 404), ("GET", "/v2/models/v1/nowhere", 404), ("DELETE", "/v2", 405), ("GET", "/v22", 404)],
)
def test_what_is_not_there_under_v2_is_an_error_of_that_protocol(
    site: Site, method: str, path: str, status: int
) -> None:
    answer = site.ask(method, path)
    assert answer.status_code == status
    assert isinstance(answer.json()["error"], str) == (path != "/v22")
    assert status != 405 or answer.headers["allow"]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("DELETE", "/v1/traffic-split", 405, "method_not_allowed"),
        ("GET", "/v1/feedback", 405, "method_not_allowed"),
        ("POST", "/v1/models/v1/predict", 404, "not_found"),
    ],
)
def test_what_is_not_there_is_an_error_of_the_common_shape(
    site: Site, method: str, path: str, status: int, code: str
) -> None:
    answer = site.ask(method, path)
    assert (answer.status_code, code_of(answer)) == (status, code)
    assert status != 405 or answer.headers["allow"]


def test_a_request_keeps_its_id(site: Site) -> None:
    assert site.ask("GET", "/livez", headers={"X-Request-ID": "mine"}).headers["x-request-id"] == "mine"
    assert site.ask("GET", "/nowhere", headers={"X-Request-ID": "not sane!"}).headers["x-request-id"] != "not sane!"
