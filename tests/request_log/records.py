"""Records of requests that nobody sent."""

from typing import Any

import numpy as np

from runners.artefacts.card import Card
from shokado.request_log.records import LoggedRequest, LoggedRequests, Record, encode

_OF_A_REQUEST = frozenset(LoggedRequest.__struct_fields__)


def request_of(card: Card, rows: list[Any], scores: Any, /, **changes: Any) -> LoggedRequests:
    """A record of one request with rows as a card has them, of the card with the number 1."""
    row_format = card.row_format
    request: dict[str, Any] = {
        "request_id": "r-1", "prediction_id": "p-1", "unit": "user-7", "reason": "SPLIT", "latency_s": 0.002,
        "row_count": len(rows),
    }  # fmt: skip
    content: dict[str, Any] = {
        "card": 1, "at": 1_000_000.0, "environment": "production", "generation": 3,
        "rows": row_format.to_wire(row_format.batch(rows)), "scores": np.array(scores, "<f4").tobytes(),
    }  # fmt: skip
    request |= {name: value for name, value in changes.items() if name in _OF_A_REQUEST}
    content |= {name: value for name, value in changes.items() if name not in _OF_A_REQUEST}
    return LoggedRequests(requests=[LoggedRequest(**request)], **content)


def encoded(*records: Record) -> list[bytes]:
    """The records as writers take them."""
    return [encode(record) for record in records]
