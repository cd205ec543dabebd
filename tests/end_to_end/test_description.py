"""The served description of the API, sent as it stands: its examples work, and what is answered has the declared shape.

`test_schema` sends what is generated from it.
"""

import json
from typing import Any

import pytest

from shokado.dialects.dialects import DIALECTS
from tests.end_to_end.description import Description, examples_of
from tests.support import http
from tests.support.server import Server

BATCHES = "/v1/batches"
"""Off by default; `test_batches_route` asks a server that has them."""


@pytest.fixture
def description(own_server: Server) -> Description:
    return Description(own_server, http.get(f"{own_server.url}/openapi.json", timeout=20).json())


def test_every_example_of_a_prediction_is_answered_as_declared(description: Description) -> None:
    assert {dialect.path for dialect in DIALECTS} <= set(description.content["paths"])
    for dialect in DIALECTS:
        operation = description.content["paths"][dialect.path]["post"]
        sent = 0
        for content_type, content in operation["requestBody"]["content"].items():
            for name, example in content.get("examples", {}).items():
                value = example["value"]
                body = value if isinstance(value, str) else json.dumps(value)
                how: dict[str, Any] = {"content": body, "headers": {"content-type": content_type}}
                answer = description.ask("POST", dialect.path, examples_of(operation), **how)
                assert answer.status_code == 200, (dialect.path, name, answer.text)
                description.check(operation, answer)
                sent += 1
        assert sent, dialect.path


def test_every_route_that_is_read_answers_as_declared_in_each_of_its_types(description: Description) -> None:
    asked = set()
    weights: dict[str, Any] = {"json": {"weights": {"v1": 50, "v2": 50}}}
    assert description.ask("POST", "/v1/traffic-split", {}, **weights).status_code == 200
    plan: dict[str, Any] = {"json": {"metric": "reward", "smallest_effect": 0.1}}
    begun = description.ask("POST", "/v1/experiments", {}, **plan)
    assert begun.status_code == 201, begun.text
    description.check(description.content["paths"]["/v1/experiments"]["post"], begun)
    for path, method, operation in description.operations("get"):
        if path.startswith(BATCHES):
            continue
        parameters = examples_of(operation)
        if ("path", "experiment") in parameters:
            parameters["path", "experiment"] = begun.json()["id"]
        missing = [name for name, value in parameters.items() if value is None]
        assert not missing, f"{path} has no example for {missing}"
        for content_type in operation["responses"]["200"]["content"]:
            answer = description.ask(method, path, parameters, headers={"accept": content_type})
            assert answer.status_code == 200, (path, answer.text)
            assert answer.headers["content-type"].split(";")[0] == content_type, path
            description.check(operation, answer)
            asked.add((path, content_type))
    assert {("/", "text/html"), ("/", "application/json"), ("/v1/models/{version}", "application/json")} <= asked


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "application/x-unheard-of"},
        {"content-type": "application/json", "content-encoding": "br"},
    ],
    ids=["type", "encoding"],
)
def test_every_body_of_another_type_is_refused_as_declared(
    description: Description, plain_server: Server, headers: dict[str, str]
) -> None:
    for path, method, operation in description.operations("post", "put", "patch", "delete"):
        for one in (description, Description(plain_server, description.content)):
            answer = one.ask(method, path, examples_of(operation), content=b"{}", headers=headers)
            assert answer.status_code == 415, (path, answer.text)
            one.check(operation, answer)
