"""What a dialect is: how one route reads a request and writes an answer. Everything else is the same for all."""

from typing import Protocol

import msgspec

from dispatch.request import Prediction, PredictionRequest
from protocols.head import RequestHead
from protocols.signature import Signature


class AnswerFacts(msgspec.Struct, frozen=True, gc=False):
    """What an encoder may tell beside the scores."""

    request_id: str
    prediction_id: bytes
    """Shown as base64, which is how msgspec writes bytes."""
    latency_ms: float
    """From the request's last byte to its encoding."""


class Dialect(Protocol):
    """One route's decode and encode. Both run on the event loop and must not wait."""

    route: bytes

    def decode(self, body: bytes, head: RequestHead, signature: Signature) -> PredictionRequest:
        """Raises `Problem`."""
        ...

    def encode(self, prediction: Prediction, head: RequestHead, facts: AnswerFacts, /) -> tuple[bytes, bytes]:
        """Content type and body of the answer."""
        ...
