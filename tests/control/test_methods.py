"""What all routes have alike, behind `ControlFirst`: HEAD, OPTIONS, 405, slashes at the end, and no redirects."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from starlette.responses import PlainTextResponse

from shokado.control.app import create_app
from shokado.control.control_first import ControlFirst
from shokado.dialects.head import RequestHead
from shokado.dialects.problem import Problem
from shokado.transports.body_quota import BodyQuota
from shokado.transports.exchange import Cancellable, Exchange, reply_problem
from shokado.transports.plain import Predictions
from shokado.transports.routes import Routes
from tests.control.site import Site
from tests.control.test_app import PUBLIC

Ask = Callable[..., httpx.Response]
NOWHERE = "/nowhere"
PREDICT = "/predict"


class Refusing:
    """Answers a prediction route with the problem of the request's head, or nothing but its path."""

    path = PREDICT

    def judge(self, head: RequestHead, peer: str) -> Problem | None:
        return None

    def begin(self, head: RequestHead, body: bytes, exchange: Exchange) -> Cancellable | None:
        if head.problem is not None:
            reply_problem(exchange, head.problem, head.request_id or "")
        else:
            exchange.reply(200, b"content-type: text/plain\r\n", self.path.encode() + body)
        return None


@pytest.fixture
def ask(site: Site) -> Ask:
    predictions = Predictions(1000, BodyQuota(10_000))
    predictions.routes = Routes([Refusing()])
    files = PlainTextResponse("a file")
    app = ControlFirst(files, create_app(site.workers[0].control), predictions, ())
    transport = httpx.ASGITransport(app)

    def ask(method: str, path: str, **how: Any) -> httpx.Response:
        async def send() -> httpx.Response:
            async with httpx.AsyncClient(transport=transport, base_url="http://site") as client:
                return await client.request(method, path, **how)

        return site.run(send())

    return ask


def concrete(path: str) -> str:
    return path.replace("{version}", "v1").replace("{model}", "v1")


READ = [concrete(path) for path, methods in PUBLIC.items() if "get" in methods]
READ += ["/docs", "/redoc", "/openapi.json", "/static_content/swagger-ui.css"]


@pytest.mark.parametrize("path", [*READ, NOWHERE, "/v1/models/v9"])
def test_head_is_get_without_the_body(ask: Ask, path: str) -> None:
    get, head = ask("GET", path), ask("HEAD", path)
    assert (head.status_code, head.content) == (get.status_code, b"")
    assert head.headers.keys() == get.headers.keys()
    assert head.headers.get("content-type") == get.headers.get("content-type")
    if get.content:
        assert int(head.headers["content-length"]) > 0


@pytest.mark.parametrize("path", [*READ, NOWHERE])
def test_a_slash_at_the_end_makes_no_difference(ask: Ask, path: str) -> None:
    without, with_slash = ask("GET", path), ask("GET", path + "/")
    assert with_slash.status_code == without.status_code
    assert with_slash.headers.get("content-type") == without.headers.get("content-type")
    assert not without.is_redirect or path == "/redoc"


def test_what_is_posted_takes_a_slash_as_well(ask: Ask) -> None:
    assert ask("POST", PREDICT + "/", content=b"!").text == f"{PREDICT}!"
    assert ask("POST", "/v1/traffic-split/", json={"v1": 1}).status_code == 200


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        *((concrete(path), methods) for path, methods in PUBLIC.items()),
        ("/docs", {"get"}),
        ("/static_content/swagger-ui.css", {"get"}),
        (PREDICT, {"post"}),
    ],
)
def test_options_and_405_tell_the_methods(ask: Ask, path: str, methods: set[str]) -> None:
    expected = {method.upper() for method in methods} | {"OPTIONS"} | ({"HEAD"} if "get" in methods else set())
    for asked in (path, path.rstrip("/") + "/"):
        told = ask("OPTIONS", asked, headers={"X-Request-ID": "mine"})
        assert (told.status_code, told.content, told.headers["x-request-id"]) == (204, b"", "mine")
        assert set(told.headers["allow"].split(", ")) == expected
    if not path.startswith("/static"):
        refused = ask("DELETE", path)
        assert (refused.status_code, set(refused.headers["allow"].split(", "))) == (405, expected)


def test_there_is_no_method_where_nothing_is(ask: Ask) -> None:
    assert ask("OPTIONS", NOWHERE).status_code == 404


def test_a_redirect_names_neither_scheme_nor_host(ask: Ask) -> None:
    assert ask("GET", "/redoc").headers["location"] == "/docs"
