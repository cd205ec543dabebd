"""The description of the prediction routes: what it says of headers is what they are read by."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jsonschema_rs
import pytest
from fastapi import FastAPI

from shokado.control.http.documentation import describe, describe_predictions
from shokado.dialects.dialects import DIALECTS, all_dialects
from shokado.dialects.head import read_head
from tests.support.cards import NAMES, toy_card
from tests.support.rows import dense_format

ID_CHARACTERS = "aZ09._:/+=@-"


@pytest.fixture(scope="module")
def described() -> Any:
    app = FastAPI()

    @app.get("/v1/models/{version}/{other}")
    def control_route(version: str, other: str) -> None: ...

    describe_predictions(app, lambda: all_dialects(dense_format(NAMES, max_rows=3)), toy_card())
    return app.openapi()


def test_it_is_made_once_when_somebody_asks_however_many_do_at_once() -> None:
    app, made = FastAPI(), []
    describe_predictions(app, lambda: all_dialects(dense_format(NAMES, max_rows=3)), toy_card())
    describe(app, lambda schema: made.append(set(schema["paths"])))
    assert not made
    with ThreadPoolExecutor(8) as threads:
        described, *others = threads.map(lambda _: app.openapi(), range(8))
    assert made == [{dialect.path for dialect in DIALECTS}]
    assert all(other is described for other in others)


def parameters(described: Any, path: str, method: str = "post") -> dict[str, Any]:
    return {parameter["name"]: parameter for parameter in described["paths"][path][method]["parameters"]}


def headers_of(path: str, described: Any) -> dict[str, Any]:
    return {name: found for name, found in parameters(described, path).items() if found["in"] == "header"}


def test_all_prediction_routes_take_the_same_headers(described: Any) -> None:
    expected = {"X-Model-Version", "X-Environment", "X-Unit-ID", "X-Request-ID", "X-Request-Deadline-Ms"}
    expected |= {"traceparent", "tracestate"}
    for dialect in DIALECTS:
        headers = headers_of(dialect.path, described)
        of_binary = {"Inference-Header-Content-Length"} if dialect.path.startswith("/v2/") else set()
        assert headers.keys() == expected | of_binary
        answered = described["paths"][dialect.path]["post"]["responses"]["200"]["headers"]
        assert answered.keys() == of_binary
        assert all(header["description"] and not header["required"] for header in headers.values())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, value) for name in ("X-Model-Version", "X-Environment") for value in (
            "v1", "a" * 128, "a" * 129, "A-Z._09", "v 1", "v1/", "ü",
        )),
        *(("X-Unit-ID", value) for value in ("customer 1", "a" * 256, "a" * 257, "ü")),
        *(("Inference-Header-Content-Length", value) for value in (0, 1, 10**12, -1, 1.5, "x")),
        *(("X-Request-Deadline-Ms", value) for value in (0.5, 1, 3_600_000, 3_600_000.1, 0, -1, "soon")),
    ],
)  # fmt: skip
def test_what_a_header_may_be_is_what_is_taken(described: Any, name: str, value: Any) -> None:
    schema = headers_of("/v2/models/{model}/infer", described)[name]["schema"]
    head = read_head([(name.lower().encode(), str(value).encode())])
    assert jsonschema_rs.is_valid(schema, value) == (head.problem is None)


@pytest.mark.parametrize("value", [ID_CHARACTERS, "a" * 128, "a" * 129, "a b", "ü", "a,b"])
def test_what_an_id_may_be_is_what_is_kept(described: Any, value: str) -> None:
    schema = headers_of("/predict", described)["X-Request-ID"]["schema"]
    head = read_head([(b"x-request-id", value.encode())])
    assert jsonschema_rs.is_valid(schema, value) == (head.request_id == value)
    assert head.problem is None


def test_names_in_paths_have_what_is_served_as_examples(described: Any) -> None:
    named = parameters(described, "/v2/models/{model}/versions/{version}/infer")
    assert (named["model"]["example"], named["version"]["example"]) == (toy_card().model, toy_card().version)
    named = parameters(described, "/v1/models/{version}/{other}", "get")
    assert named["version"]["example"] == toy_card().version
    assert "example" not in named["other"]
