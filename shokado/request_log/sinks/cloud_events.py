"""Records as CloudEvents 1.0, in the words of KServe's payload loggers, and batches of them.

A request is two events with one `id`, as there: `org.kubeflow.serving.inference.request` with `instances`, and
`..response` with `predictions`. Their `source` differs, as two events may share no pair of both
(https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md#id). What KServe does not have, feedback, is a type
of its own.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from shokado.request_log.logged_rows import LoggedRow, RecordReader
from shokado.request_log.records import LoggedCard, LoggedFeedback, LoggedRequest, LoggedRequests, Record

CONTENT_TYPE = "application/cloudevents-batch+json; charset=UTF-8"
REQUEST = "org.kubeflow.serving.inference.request"
RESPONSE = "org.kubeflow.serving.inference.response"
FEEDBACK = "org.shokado.inference.feedback"

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class EventSource:
    """What all events of a server say of it."""

    model: str
    """KServe's `inferenceservicename`."""
    namespace: str


def events_of(records: Iterable[Record], reader: RecordReader, origin: EventSource) -> Iterator[bytes]:
    """The events of records that follow each other in a segment, each as JSON."""
    for record in records:
        if isinstance(record, LoggedCard):
            reader.learn((record,))
        elif isinstance(record, LoggedRequests):
            for request, rows in reader.requests_of(record):
                yield _request(record, request, rows, origin)
                yield _response(record, request, rows, origin)
        else:
            yield _feedback(record, origin)


def batches(events: Iterable[bytes], max_bytes: int) -> Iterator[bytes]:
    """JSON lists of events, in their order, of up to `max_bytes`; one that is longer is alone in its own."""
    held: list[bytes] = []
    size = 0
    for event in events:
        if held and size + len(event) + 1 > max_bytes:
            yield _listed(held)
            held, size = [], 0
        held.append(event)
        size += len(event) + 1
    if held:
        yield _listed(held)


def _listed(events: list[bytes]) -> bytes:
    return b"[" + b",".join(events) + b"]"


def _request(record: LoggedRequests, request: LoggedRequest, rows: list[LoggedRow], origin: EventSource) -> bytes:
    data: dict[str, Any] = {"instances": [row.features for row in rows]}
    if request.unit:
        data["unit"] = request.unit
    at = record.at - request.latency_s
    return _event(REQUEST, "requests", request.prediction_id, at, data, origin, _version(rows))


def _response(record: LoggedRequests, request: LoggedRequest, rows: list[LoggedRow], origin: EventSource) -> bytes:
    data = {
        "predictions": [_score(row) for row in rows],
        **({"classes": [row.label for row in rows]} if rows and rows[0].label is not None else {}),
        "version": _version(rows),
        "environment": record.environment,
        "reason": request.reason,
        "propensity": record.propensity(request, _version(rows)),
        "generation": record.generation,
        "request_id": request.request_id,
        "prediction_id": request.prediction_id,
        "latency_ms": request.latency_s * 1000,
    }
    return _event(RESPONSE, "responses", request.prediction_id, record.at, data, origin, _version(rows))


def _feedback(record: LoggedFeedback, origin: EventSource) -> bytes:
    data = {
        "prediction_id": record.prediction_id,
        "index": record.index,
        "label": msgspec.json.decode(record.label) if record.label is not None else None,
        "reward": record.reward,
    }
    name = f"{record.prediction_id}/{record.index}/{record.at:.6f}"
    return _event(FEEDBACK, "feedback", name, record.at, data, origin)


def _event(kind: str, part: str, name: str, at: float, data: Any, origin: EventSource, version: str = "") -> bytes:
    return _encode(
        {
            "specversion": "1.0",
            "type": kind,
            "source": f"/models/{origin.model}/{part}",
            "id": name,
            "time": datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "datacontenttype": "application/json",
            "inferenceservicename": origin.model,
            "namespace": origin.namespace,
            "component": "predictor",
            **({"endpoint": version} if version else {}),
            "data": data,
        }
    )


def _version(rows: list[LoggedRow]) -> str:
    return rows[0].version if rows else ""


def _score(row: LoggedRow) -> float | list[float]:
    values = list(row.scores.values())
    return values[0] if len(values) == 1 else values
