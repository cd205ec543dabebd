"""Feedback over HTTP: what is counted, what is refused by itself, and what refuses the whole request."""

import json
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shokado.experiments.prediction_id import PredictionIds
from tests.control.site import MAX_AGE_S, SECRET, Site
from tests.support.problems import code_of, message_of
from tests.transports.predictions import prediction

FEEDBACK = "/v1/feedback"


def made(site: Site, *scores: float) -> str:
    """The id of a prediction by v1 with these scores."""
    worker = site.workers[0]
    return worker.ids.make(prediction(worker.cards["v1"], list(scores or (0.9,))))


def old(site: Site) -> str:
    ids = PredictionIds(SECRET, MAX_AGE_S, clock=lambda: 1e9)
    return ids.make(prediction(site.workers[0].cards["v1"], [0.9]))


def forged(site: Site) -> str:
    return PredictionIds(bytes(32), MAX_AGE_S).make(prediction(site.workers[0].cards["v1"], [0.9]))


def send(site: Site, text: str | bytes, content_type: str = "application/json") -> httpx.Response:
    return site.ask("POST", FEEDBACK, content=text, headers={"content-type": content_type})


def quality(site: Site) -> Any:
    return site.get("/v1/metrics/v1")["quality"]


def test_one_label_is_counted_once_however_often_it_is_sent(site: Site) -> None:
    entry = {"prediction_id": made(site), "label": 1}
    first = site.post(FEEDBACK, entry)
    assert (first.status_code, first.json()) == (
        200,
        {"accepted": 1, "duplicate": 0, "rejected": 0, "results": [{"status": "accepted", "version": "v1"}]},
    )
    again = site.post(FEEDBACK, entry)
    assert again.status_code == 200
    assert (again.json()["accepted"], again.json()["duplicate"]) == (0, 1)
    assert again.json()["results"][0]["status"] == "duplicate"
    assert quality(site)["labels"] == 1
    assert quality(site)["accuracy"]["value"] == 1


def test_each_row_of_a_request_has_its_own_label(site: Site) -> None:
    one = made(site, 0.9, 0.1, 0.8)
    answer = site.post(FEEDBACK, [{"prediction_id": one, "index": index, "label": 1} for index in range(3)])
    assert answer.json()["accepted"] == 3
    assert quality(site)["accuracy"]["value"] == pytest.approx(2 / 3)


def test_in_a_list_each_entry_is_settled_by_itself_and_in_order(site: Site) -> None:
    good = made(site)
    entries = [
        {"prediction_id": good, "reward": 0.5},
        {"prediction_id": old(site), "label": 1},
        {"prediction_id": forged(site), "label": 1},
        {"prediction_id": "x", "label": 1},
        {"prediction_id": good, "index": 7, "label": 1},
        {"prediction_id": good, "reward": 0.5},
        {"prediction_id": made(site), "reward": 2},
        {"prediction_id": made(site)},
        {"prediction_id": made(site), "label": 1, "colour": "red"},
        {"prediction_id": made(site), "reward": "1"},
        {"label": 1},
        17,
        {"prediction_id": made(site), "label": 0},
    ]
    answer = site.post(FEEDBACK, entries)
    assert answer.status_code == 200
    content = answer.json()
    assert [result["status"] for result in content["results"]] == [
        "accepted", "expired", "forged", "malformed", "unknown", "duplicate", "invalid", "invalid", "invalid",
        "invalid", "invalid", "invalid", "accepted",
    ]  # fmt: skip
    assert (content["accepted"], content["duplicate"], content["rejected"]) == (2, 1, 10)
    assert all("reason" in result for result in content["results"] if result["status"] != "accepted")
    assert "colour" in content["results"][8]["reason"]
    assert quality(site)["feedback"] == 2


def test_an_empty_list_is_settled(site: Site) -> None:
    assert site.post(FEEDBACK, []).json() == {"accepted": 0, "duplicate": 0, "rejected": 0, "results": []}


@pytest.mark.parametrize(
    ("entry", "code"),
    [
        ({"prediction_id": "x", "label": 1}, "feedback_malformed"),
        ({"prediction_id": "forged", "label": 1}, "feedback_forged"),
        ({"prediction_id": "old", "label": 1}, "feedback_expired"),
        ({"prediction_id": "made", "index": 9, "label": 1}, "feedback_unknown"),
        ({"prediction_id": "made", "label": "maybe"}, "feedback_invalid"),
        ({"prediction_id": "made", "labl": 1}, "feedback_invalid"),
        ({"label": 1}, "feedback_invalid"),
        ({}, "feedback_invalid"),
    ],
)
def test_who_sends_a_single_one_is_told_by_the_status(site: Site, entry: dict[str, Any], code: str) -> None:
    ids = {"forged": forged, "old": old, "made": made}
    named = entry.get("prediction_id")
    answer = site.post(FEEDBACK, entry | ({"prediction_id": ids[named](site)} if named in ids else {}))
    assert (answer.status_code, code_of(answer)) == (422, code)


@pytest.mark.parametrize(
    ("body", "content_type", "status", "code"),
    [
        (b"{", "application/json", 400, "malformed_body"),
        (b"", "application/json", 400, "malformed_body"),
        (b'[{"prediction_id": "x"},]', "application/json", 400, "malformed_body"),
        (b'[{"label": NaN}]', "application/json", 400, "malformed_body"),
        (b"[" * 3_000, "application/json", 400, "malformed_body"),
        (b"17", "application/json", 422, "invalid"),
        (b"null", "application/json", 422, "invalid"),
        (b"[]", "text/plain", 415, "unsupported_media_type"),
        (b" " * 5_000, "application/json", 413, "body_too_large"),
        (json.dumps([1] * 101).encode(), "application/json", 413, "too_many_entries"),
    ],
)
def test_a_body_that_is_wrong_as_a_whole_is_refused(
    site: Site, body: bytes, content_type: str, status: int, code: str
) -> None:
    answer = send(site, body, content_type)
    assert (answer.status_code, code_of(answer)) == (status, code), answer.text


def test_the_longest_list_is_taken(site: Site) -> None:
    assert site.post(FEEDBACK, [1] * 100).json()["rejected"] == 100


def test_without_the_store_nothing_is_taken_and_all_may_be_sent_again(site: Site) -> None:
    entries = [{"prediction_id": made(site), "label": 1}, {"prediction_id": "x", "label": 1}]
    site.break_store()
    answer = site.post(FEEDBACK, entries)
    assert (answer.status_code, code_of(answer), answer.headers["retry-after"]) == (503, "store_unavailable", "1")
    assert "send the same again" in message_of(answer)
    site.database.rmdir()
    assert site.post(FEEDBACK, entries).json()["accepted"] == 1


labels = st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(), st.booleans(), st.none())
entries = st.fixed_dictionaries(
    {"prediction_id": st.one_of(st.just("made"), st.text())},
    optional={"index": st.one_of(st.integers(), labels), "label": labels, "reward": labels, "more": labels},
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(entries, labels), max_size=8))
def test_any_list_is_settled_entry_by_entry(site: Site, sent: list[Any]) -> None:
    for entry in sent:
        if isinstance(entry, dict) and entry["prediction_id"] == "made":
            entry["prediction_id"] = made(site)
    answer = site.post(FEEDBACK, sent)
    if answer.status_code == 413:
        return
    assert answer.status_code == 200, answer.text
    content = answer.json()
    assert len(content["results"]) == len(sent)
    assert content["accepted"] + content["duplicate"] + content["rejected"] == len(sent)
