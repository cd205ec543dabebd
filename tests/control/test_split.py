"""The traffic split: read, changed, and every way in which a change is refused."""

import json
import math
import os
import socket
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.control.site import ACTOR, Site
from tests.support.problems import code_of, message_of

SPLIT = "/v1/traffic-split"
FIELDS = ("environment", "weights", "strategy", "enabled", "salt", "shadow", "active", "why")


def post_text(
    site: Site, text: str, content_type: str | None = "application/json", path: str = SPLIT
) -> httpx.Response:
    headers = {"content-type": content_type} if content_type is not None else {}
    return site.ask("POST", path, content=text.encode(), headers=headers)


def test_the_split_is_told_with_its_generation_and_who_made_it(site: Site) -> None:
    answer = site.ask("GET", SPLIT)
    assert answer.headers["etag"] == '"1"'
    content = answer.json()
    assert content.pop("updated_at").endswith("+00:00")
    assert content == {
        "environment": "production",
        "generation": 1,
        "active": "v1",
        "weights": {"v1": 80, "v2": 20},
        "shares": {"v1": 0.8, "v2": 0.2},
        "strategy": "random",
        "enabled": True,
        "salt": "paper/production",
        "percent": {"v1": 80, "v2": 20},
        "shadow": None,
        "experiment": None,
        "layer": None,
        "by": "configuration",
        "action": "configured",
        "why": "",
    }


def test_weights_alone_are_a_body(site: Site) -> None:
    answer = site.post(SPLIT, {"v1": 90, "v2": 10})
    assert (answer.status_code, answer.headers["etag"]) == (200, '"2"')
    assert answer.json()["shares"] == {"v1": 0.9, "v2": 0.1}
    assert answer.json() == site.get(SPLIT), "the answer is what is read from then on"
    assert site.workers[0].dispatcher.state.environments["production"].weights == {"v1": 90, "v2": 10}


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_all_fields_can_be_changed_at_once(site: Site, method: str) -> None:
    body = {
        "environment": "staging", "weights": {"v1": 1, "v3": 3}, "strategy": "hash", "salt": "autumn", "shadow": "b",
        "enabled": False, "active": "a", "why": "a try",
    }  # fmt: skip
    content = site.ask(method, SPLIT, json=body).json()
    assert content["weights"] == {"v1": 1, "v3": 3}
    assert [content[name] for name in ("environment", "strategy", "salt", "enabled", "why", "action")] == [
        "staging", "hash", "autumn", False, "a try", "split",
    ]  # fmt: skip
    assert (content["active"], content["shadow"]) == ("v1", "v2"), "aliases are told as what they stand for"


def test_what_a_body_leaves_out_stays(site: Site) -> None:
    site.post(SPLIT, {"weights": {"v1": 1, "v2": 1}, "strategy": "hash", "salt": "x", "shadow": "v3"})
    before = site.get(SPLIT)
    after = site.post(SPLIT, {"enabled": False}).json()
    unlike = {name for name in before if before[name] != after[name]}
    assert unlike == {"enabled", "generation", "updated_at"}


def test_null_switches_the_shadow_off_and_nothing_else(site: Site) -> None:
    assert site.post(SPLIT, {"shadow": "v2"}).json()["shadow"] == "v2"
    assert site.post(SPLIT, {"shadow": None, "strategy": None, "weights": None}).json()["shadow"] is None
    assert site.get(SPLIT)["weights"] == {"v1": 80, "v2": 20}


def test_hash_based_is_another_spelling_of_hash(site: Site) -> None:
    assert site.post(SPLIT, {"strategy": "hash-based"}).json()["strategy"] == "hash"


def test_an_alias_may_stand_in_weights(site: Site) -> None:
    assert site.post(SPLIT, {"a": 1, "b": 1}).json()["weights"] == {"v1": 1, "v2": 1}


def test_the_header_picks_the_environment_as_the_query_and_the_body_do(site: Site) -> None:
    staging = {"X-Environment": "staging"}
    assert site.post(SPLIT, {"v3": 1}, staging).json()["environment"] == "staging"
    by_header, by_query = site.get(SPLIT, headers=staging), site.get(f"{SPLIT}?environment=staging")
    assert by_header == by_query
    assert by_header["weights"] == {"v3": 1}
    assert site.get(SPLIT)["weights"] == {"v1": 80, "v2": 20}
    for answer in (
        site.post(SPLIT, {"environment": "production", "weights": {"v1": 1}}, staging),
        site.ask("GET", f"{SPLIT}?environment=production", headers=staging),
    ):
        assert (answer.status_code, code_of(answer)) == (400, "conflicting_environment")


@pytest.mark.parametrize("known", ['"1"', 'W/"1"', '"7", "1"', "*"])
def test_a_split_that_is_known_is_not_told_again(site: Site, known: str) -> None:
    answer = site.ask("GET", SPLIT, headers={"If-None-Match": known})
    assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", '"1"')
    site.post(SPLIT, {"v1": 1})
    if known != "*":
        assert site.ask("GET", SPLIT, headers={"If-None-Match": known}).status_code == 200


def test_only_who_saw_the_last_generation_may_change_it(site: Site) -> None:
    assert site.post(SPLIT, {"v1": 1}, {"If-Match": '"1"'}).status_code == 200
    late = site.post(SPLIT, {"v2": 1}, {"If-Match": '"1"'})
    assert (late.status_code, code_of(late)) == (412, "generation_conflict")
    assert late.json()["error"]["detail"] == {"expected": 1, "found": 2}
    assert "2" in message_of(late)
    assert "1" in message_of(late)
    assert site.get(SPLIT)["weights"] == {"v1": 1}
    assert site.post(SPLIT, {"v2": 1}, {"If-Match": "*"}).status_code == 200


@pytest.mark.parametrize("odd", ['W/"1"', "1", '"1", "2"', '"one"', '""', '"' + "9" * 30 + '"'])
def test_an_odd_if_match_is_refused(site: Site, odd: str) -> None:
    answer = site.post(SPLIT, {"v1": 1}, {"If-Match": odd})
    assert (answer.status_code, code_of(answer)) == (400, "bad_header")


@pytest.mark.parametrize(
    ("name", "by"),
    [
        ("ann", "ann"),
        (" ann b ", "ann b"),
        ("zoë".encode(), "zoë"),
        ("zoë".encode("latin-1"), "zoë"),
        ("x" * 64, "x" * 64),
    ],
)
def test_the_actor_says_who_made_the_change(site: Site, name: str | bytes, by: str) -> None:
    answer = site.ask("POST", SPLIT, json={"v1": 1}, headers=[(b"x-actor", name)])
    assert answer.json()["by"] == by


def test_without_an_actor_it_is_the_address(site: Site) -> None:
    assert site.post(SPLIT, {"v1": 1}).json()["by"] == ACTOR


@pytest.mark.parametrize("name", ["", "  ", "x" * 65, b"a\x07b", "a\u200bb".encode()])
def test_an_actor_that_cannot_be_shown_is_refused(site: Site, name: str | bytes) -> None:
    answer = site.ask("POST", SPLIT, json={"v1": 1}, headers=[(b"x-actor", name)])
    assert (answer.status_code, code_of(answer)) == (400, "bad_header")


REFUSED: dict[str, tuple[str, int, str, str]] = {
    "negative": ('{"v1": -1, "v2": 2}', 422, "invalid_weight", "v1"),
    "all zero": ('{"v1": 0, "v2": 0}', 422, "no_weight", "above 0"),
    "none": ('{"weights": {}}', 422, "no_weight", "above 0"),
    "NaN": ('{"v1": NaN}', 422, "invalid_weight", "v1"),
    "infinity": ('{"v1": 1, "v2": Infinity}', 422, "invalid_weight", "v2"),
    "minus infinity": ('{"v1": 1, "v2": -Infinity}', 422, "invalid_weight", "v2"),
    "overflow": ('{"v1": 1e999}', 422, "invalid_weight", "v1"),
    "a huge integer": ('{"v1": ' + "9" * 400 + "}", 422, "invalid", "v1"),
    "a string": ('{"v1": "90"}', 422, "invalid", "v1"),
    "a boolean": ('{"v1": true, "v2": 1}', 422, "invalid", "v1"),
    "null": ('{"v1": null}', 422, "invalid", "v1"),
    "a list": ('{"v1": [1]}', 422, "invalid", "v1"),
    "a boolean inside": ('{"weights": {"v2": false, "v1": 1}}', 422, "invalid", "v2"),
    "weights that are a list": ('{"weights": [1]}', 422, "invalid", "weights"),
    "two names of one version": ('{"v1": 1, "a": 1}', 422, "repeated_version", "a"),
    "the same name twice": ('{"v1": 90, "v2": 1, "v1": 10}', 422, "repeated_key", "v1"),
    "a weight alone": ('{"v2": 20}', 422, "lone_weight", '{"v1": 80, "v2": 20}'),
    "a weight alone by its alias": ('{"weights": {"b": 20}}', 422, "lone_weight", '{"v1": 80, "v2": 20}'),
    "an unknown version": ('{"v9": 1}', 404, "unknown_version", "v9"),
    "an unknown shadow": ('{"shadow": "v9"}', 404, "unknown_version", "v9"),
    "an unknown active": ('{"active": "v9"}', 404, "unknown_version", "v9"),
    "an unknown environment": ('{"weights": {"v1": 1}, "environment": "moon"}', 404, "unknown_environment", "moon"),
    "an unknown field": ('{"weights": {"v1": 1}, "strateggy": "hash"}', 422, "unknown_field", "strateggy"),
    "both forms": ('{"v1": 1, "strategy": "hash"}', 422, "unknown_field", "v1"),
    "an unknown strategy": ('{"strategy": "luck"}', 422, "invalid", "strategy"),
    "a strategy that is a number": ('{"strategy": 1}', 422, "invalid", "strategy"),
    "enabled that is no boolean": ('{"enabled": 1}', 422, "invalid", "enabled"),
    "a long salt": (json.dumps({"salt": "x" * 129}), 422, "salt_too_long", "128"),
    "a long why": (json.dumps({"enabled": True, "why": "x" * 501}), 422, "invalid", "why"),
    "half a character": ('{"why": "\\ud800", "enabled": true}', 422, "not_unicode", "why"),
    "half a character in a salt": ('{"salt": "a\\ud800x"}', 422, "not_unicode", "salt"),
    "half a character as a name": ('{"\\ud800": "x"}', 422, "not_unicode", "?"),
    "half a character as a version": ('{"weights": {"\\ud800": 1}}', 422, "not_unicode", "weights.?"),
    "half a character in a list": ('{"why": ["a", "\\udfff"]}', 422, "not_unicode", "why.1"),
    "more values than any change has": ('{"weights": [' + "0," * 1_001 + "0]}", 413, "too_many_values", "1000"),
    "nothing": ("{}", 422, "nothing_to_change", "nothing"),
    "only a why": ('{"why": "x"}', 422, "nothing_to_change", "nothing"),
    "only nulls": ('{"weights": null}', 422, "nothing_to_change", "nothing"),
    "no body": ("", 422, "invalid", "body"),
    "a list as the body": ("[1]", 422, "invalid", "body"),
    "a number as the body": ("1", 422, "invalid", "body"),
    "null as the body": ("null", 422, "invalid", "body"),
    "no JSON": ("{", 400, "malformed_body", "JSON"),
    "a comma too many": ('{"v1": 1,}', 400, "malformed_body", "JSON"),
    "deep nesting": ("[" * 2_000, 413, "too_many_values", "lists"),
    "endless digits": ('{"v1": 1}' + " " * 5_000, 413, "body_too_large", "4096"),
}


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_a_change_that_cannot_be_is_refused_by_name_and_changes_nothing(site: Site, case: str) -> None:
    text, status, code, says = REFUSED[case]
    answer = post_text(site, text)
    assert (answer.status_code, code_of(answer)) == (status, code), answer.text
    assert says in message_of(answer)
    assert len(answer.content) < 1_000
    assert site.get(SPLIT)["generation"] == 1


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "application/vnd.x+json", None]
)
def test_what_is_not_sent_as_json_is_not_read(site: Site, content_type: str | None) -> None:
    answer = post_text(site, '{"v1": 1}', content_type)
    assert (answer.status_code, code_of(answer)) == (415, "unsupported_media_type")


def test_a_content_type_may_have_parameters_and_capitals(site: Site) -> None:
    assert post_text(site, '{"v1": 1}', "Application/JSON; charset=utf-8").status_code == 200


def test_text_that_is_not_utf_8_is_refused(site: Site) -> None:
    answer = site.ask("POST", SPLIT, content=b'{"\xff": 1}', headers={"content-type": "application/json"})
    assert (answer.status_code, code_of(answer)) == (400, "malformed_body")


def test_a_body_without_a_length_is_refused_at_the_limit(site: Site) -> None:
    sent = 0

    async def endless() -> Any:
        nonlocal sent
        while True:
            sent += 1
            yield b" " * 1024

    answer = site.ask("POST", SPLIT, content=endless(), headers={"content-type": "application/json"})
    assert (answer.status_code, code_of(answer)) == (413, "body_too_large")
    assert sent <= 6, "no more is read than it takes to know"


def test_a_version_that_is_not_ready_gets_no_traffic(empty_site: Site) -> None:
    empty_site.join(broken=frozenset({"v2"}))
    for body in ({"v1": 1, "v2": 1}, {"active": "v2"}, {"shadow": "v2"}):
        answer = empty_site.post(SPLIT, body)
        assert (answer.status_code, code_of(answer)) == (409, "version_not_ready")
        assert answer.json()["error"]["detail"] == {"version": "v2", "state": "failed"}
    assert empty_site.post(SPLIT, {"v1": 1, "v2": 0}).status_code == 200, "weight 0 is no traffic"


def test_a_version_that_is_not_ready_in_another_worker_gets_none_either(site: Site) -> None:
    site.join(broken=frozenset({"v3"}))
    answer = site.post(SPLIT, {"v3": 1})
    assert (answer.status_code, code_of(answer)) == (409, "version_not_ready")
    assert f"failed in worker {os.getpid()} on {socket.gethostname()}" in message_of(answer)
    assert site.post(SPLIT, {"v2": 1}).status_code == 200


def test_a_change_arrives_at_the_other_worker(site: Site) -> None:
    other = site.join()
    changed = site.post(SPLIT, {"v1": 1, "v2": 3}).json()
    assert site.get(SPLIT, worker=1) == changed, "at once"
    site.until(lambda: other.dispatcher.state.generation == changed["generation"])
    assert other.dispatcher.state.environments["production"].shares == changed["shares"]


def test_while_the_store_is_away_changes_are_refused_and_the_split_is_still_told(site: Site) -> None:
    before = site.get(SPLIT)
    site.break_store()
    refused = site.post(SPLIT, {"v1": 1})
    assert (refused.status_code, code_of(refused), refused.headers["retry-after"]) == (503, "store_unavailable", "1")
    assert str(site.database) in message_of(refused)
    assert "nothing was changed" in message_of(refused)
    assert "predictions go on" in message_of(refused)
    assert site.get(SPLIT) == before


def test_a_store_that_is_lost_in_the_middle_leaves_it_open_whether_the_change_was_made(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = site.workers[0].follower.store
    reports = store.reports

    def last_words(now: float) -> Any:
        found = reports(now)
        site.break_store()
        return found

    monkeypatch.setattr(store, "reports", last_words)
    refused = site.post(SPLIT, {"v1": 1})
    assert (refused.status_code, code_of(refused)) == (503, "store_unavailable")
    assert "not known" in message_of(refused)


def test_an_unforeseen_error_tells_nothing_but_its_id(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(now: float) -> Any:
        raise RuntimeError("secret")

    monkeypatch.setattr(site.workers[0].follower.store, "reports", fail)
    transport = site.workers[0].client._transport
    assert isinstance(transport, httpx.ASGITransport)
    transport.raise_app_exceptions = False
    answer = site.post(SPLIT, {"v1": 1}, {"X-Request-ID": "mine"})
    assert (answer.status_code, code_of(answer), answer.headers["x-request-id"]) == (500, "internal", "mine")
    assert "secret" not in answer.text


def test_before_the_worker_has_started_everything_waits(site: Site) -> None:
    site.workers[0].control.parts = None
    for method, path in (
        ("GET", SPLIT),
        ("POST", SPLIT),
        ("GET", "/v1/models"),
        ("GET", "/readyz"),
        ("GET", "/metrics"),
    ):
        answer = site.ask(method, path, json={"v1": 1} if method == "POST" else None)
        assert (answer.status_code, code_of(answer), answer.headers["retry-after"]) == (503, "not_ready", "1")


names = st.one_of(st.sampled_from(["v1", "v2", "v3", "a", "b", *FIELDS]), st.text(max_size=5))
numbers = st.one_of(st.integers(-2, 100), st.floats(), st.integers())
values = st.one_of(numbers, st.text(max_size=3), st.booleans(), st.none(), st.lists(st.integers(), max_size=1))


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.dictionaries(names, values, max_size=4))
def test_any_object_is_taken_as_weights_that_make_sense_or_refused(site: Site, body: dict[str, Any]) -> None:
    """Where it is taken, no field was among its names, and the weights are those that were sent."""
    before = site.get(SPLIT)
    answer = post_text(site, json.dumps(body))
    weights = {{"a": "v1", "b": "v2"}.get(name, name): value for name, value in body.items()}
    sensible = (
        len(weights) == len(body)
        and weights.keys() <= {"v1", "v2", "v3"}
        and all(isinstance(value, int | float) and not isinstance(value, bool) for value in weights.values())
        and all(value >= 0 and math.isfinite(value) for value in weights.values())
        and any(value > 0 for value in weights.values())
        and (len(weights) > 1 or set(weights.values()) <= {1, 100})
    )
    if not body.keys() & set(FIELDS):
        assert (answer.status_code == 200) == sensible, answer.text
    if answer.status_code == 200 and sensible:
        assert answer.json()["weights"] == pytest.approx(weights)
    if answer.status_code != 200:
        assert answer.status_code in {404, 422}
        code_of(answer)
        assert site.get(SPLIT) == before
