"""Records as CloudEvents: what a receiver reads is what was asked and answered."""

import json
import subprocess
from typing import Any

import pytest

from runners.artefacts.card import Card, Task
from shokado.request_log.logged_rows import RecordReader
from shokado.request_log.records import LoggedCard, LoggedFeedback, Record
from shokado.request_log.sinks.cloud_events import EventSource, batches, events_of
from tests.end_to_end.test_open_inference_clients import environment_of
from tests.request_log.records import request_of
from tests.support.cards import make_card

ORIGIN = EventSource("customers", "ml")


def events_from(card: Card, *records: Record, masked: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    logged = LoggedCard(1, card.model_dump_json().encode(), masked)
    return [json.loads(event) for event in events_of([logged, *records], RecordReader(), ORIGIN)]


def test_a_request_is_two_events_with_one_id_as_kserve_has_them() -> None:
    card = make_card()
    record = request_of(card, [[1, 2], [3, 4]], [0.75, 0.25], at=1_000.5, latency_s=0.25, shares={"v1": 0.9, "v2": 0.1})
    asked, answered = events_from(card, record)
    assert asked == {
        "specversion": "1.0", "type": "org.kubeflow.serving.inference.request", "source": "/models/customers/requests",
        "id": "p-1", "time": "1970-01-01T00:16:40.250000Z", "datacontenttype": "application/json",
        "inferenceservicename": "customers", "namespace": "ml", "component": "predictor", "endpoint": "v1",
        "data": {"instances": [{"width": 1, "count": 2}, {"width": 3, "count": 4}], "unit": "user-7"},
    }  # fmt: skip
    assert (answered["type"], answered["id"]) == ("org.kubeflow.serving.inference.response", "p-1")
    assert answered["source"] != asked["source"], "no two events have both id and source"
    assert answered["time"] == "1970-01-01T00:16:40.500000Z"
    assert answered["data"] == {
        "predictions": [0.75, 0.25], "classes": [1, 0], "version": "v1", "environment": "production", "reason": "SPLIT",
        "propensity": 0.9, "generation": 3, "request_id": "r-1", "prediction_id": "p-1", "latency_ms": 250,
    }  # fmt: skip


def test_several_scores_a_row_are_a_list_and_values_have_no_classes() -> None:
    card = make_card(Task.MULTICLASS)
    width = card.scores_per_row
    scores = [[0.5] + [0.5 / (width - 1)] * (width - 1)]
    _, answered = events_from(card, request_of(card, [[1, 2]], scores))
    assert answered["data"]["predictions"] == [pytest.approx(scores[0])]
    card = make_card(Task.REGRESSION)
    _, answered = events_from(card, request_of(card, [[1, 2]], [7.5]))
    assert answered["data"]["predictions"] == [7.5]
    assert "classes" not in answered["data"]


def test_what_was_masked_is_not_there() -> None:
    card = make_card()
    record = request_of(card, [[0, 0]], [0.5], unit="", hashes={"count": ["5f"]})
    asked, _ = events_from(card, record, masked=("width", "count"))
    assert asked["data"] == {"instances": [{"width": None, "count": "5f"}]}


def test_feedback_is_an_event_of_its_own() -> None:
    said = [LoggedFeedback(7.0, "p-1", index, '"yes"', None) for index in (0, 1)]
    first, second = events_from(make_card(), *said)
    assert first["type"] == "org.shokado.inference.feedback"
    assert first["data"] == {"prediction_id": "p-1", "index": 0, "label": "yes", "reward": None}
    assert first["id"] != second["id"]


def test_batches_are_bounded_and_lose_nothing() -> None:
    events = [json.dumps({"id": number, "pad": "x" * (number * 7 % 300)}).encode() for number in range(200)]
    made = list(batches(events, 1000))
    assert [event["id"] for batch in made for event in json.loads(batch)] == list(range(200))
    assert max(map(len, made)) <= 1000 + 1
    assert len(made) < 60, "as few as fit"
    alone = [json.loads(batch) for batch in batches([b'{"id":1}', b'"%s"' % (b"y" * 5000), b'{"id":2}'], 1000)]
    assert [len(batch) for batch in alone] == [1, 1, 1]
    assert list(batches([], 1000)) == []


def test_the_public_package_reads_them() -> None:
    """The one that KServe's server depends on, which checks what CloudEvents must have."""
    card = make_card()
    events = events_from(card, request_of(card, [[1, 2]], [0.75]), LoggedFeedback(7.0, "p-1", 0, "1", 0.5))
    program = (
        "import json, sys\n"
        "from cloudevents.http import from_json\n"
        "found = [from_json(json.dumps(event)) for event in json.load(sys.stdin)]\n"
        "told = [[event[name] for name in ('type', 'id', 'inferenceservicename')] + [event.data] for event in found]\n"
        "print(json.dumps(told))"
    )
    command = [str(environment_of("kserve")), "-c", program]
    read = subprocess.run(command, input=json.dumps(events), capture_output=True, text=True, check=False)
    assert read.returncode == 0, read.stderr
    assert json.loads(read.stdout) == [[e["type"], e["id"], "customers", e["data"]] for e in events]
