"""One instance: what is set is heeded, and what goes wrong is answered."""

import json
from types import SimpleNamespace

import pytest

from shokado.function import instance as instances
from tests.function.events import GATEWAYS, Gateway, http_event, read_answer, rest_event
from tests.function.functions import opened
from tests.support.raw_http import NATIVE
from tests.support.server import ROW

JSON = [("content-type", "application/json")]
BODY = json.dumps({"instances": [ROW]}).encode()


def test_a_prefix_is_a_stage(models: object) -> None:
    with opened(SHOKADO_PREFIX="/prod") as function:
        for path in (f"/prod{NATIVE}", NATIVE):
            assert read_answer(function.answer(http_event("POST", path, JSON, BODY))).status == 200
        assert read_answer(function.answer(http_event("GET", "/prod/livez"))).status == 200


def test_pages_of_other_sites_may_ask_where_they_are_named(models: object) -> None:
    origin = ("origin", "https://app.example.com")
    with opened(SHOKADO_ACCESS__CORS__ORIGINS='["https://app.example.com"]') as function:
        preflight = rest_event("OPTIONS", NATIVE, [origin, ("access-control-request-method", "POST")])
        asked = http_event("POST", NATIVE, [*JSON, origin], BODY)
        for event in (preflight, asked):
            answer = read_answer(function.answer(event))
            assert (answer.status, answer.header("access-control-allow-origin")) == (200, origin[1])


@pytest.mark.parametrize("gateway", GATEWAYS.values(), ids=GATEWAYS)
def test_an_answer_that_lambda_would_not_pass_on_is_refused(
    models: object, monkeypatch: pytest.MonkeyPatch, gateway: Gateway
) -> None:
    body = json.dumps({"instances": [ROW] * 1_000, "version": "v1"}).encode()
    with opened() as function:
        event = gateway("POST", NATIVE, JSON, body)
        answer = function.answer(event)
        size = len(json.dumps(answer))
        for limit, status in ((size + 50, 200), (size - 50, 413)):
            monkeypatch.setattr(instances, "_MAX_ANSWER_BYTES", limit)
            assert read_answer(function.answer(event)).status == status
        assert read_answer(function.answer(event)).code == "too_many_rows"


def test_a_deadline_of_the_client_is_its_own(models: object) -> None:
    no_time = SimpleNamespace(get_remaining_time_in_millis=lambda: 100)
    many = json.dumps({"instances": [ROW] * 9_000, "version": "v1"}).encode()
    with opened() as function:
        event = http_event("POST", NATIVE, [*JSON, ("x-request-deadline-ms", "60000")], many)
        assert read_answer(function.answer(event, no_time)).status == 200
        answer = read_answer(function.answer(http_event("POST", NATIVE, JSON, many), no_time))
        assert (answer.status, answer.code) == (504, "deadline_exceeded")


def test_what_an_app_does_not_foresee_is_answered(models: object, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(*_: object) -> None:
        raise RuntimeError("unforeseen")

    with opened() as function:
        monkeypatch.setattr(function.instance, "_app", fails)
        answer = read_answer(function.answer(http_event("GET", "/livez")))
        assert (answer.status, answer.code) == (500, "internal")
