"""A client of a running Shokado server, for programs and notebooks. It needs httpx and nothing of the server's.

    with Client("http://localhost:3000") as client:
        answer = client.predict([[39, 52000, 690, 12, 800, 85.5, 1, 0, 2, 4]], unit="user-17")
        client.feedback(answer.prediction_id, label=0)

`AsyncClient` has the same methods, each to be awaited. What comes back are frozen values (`shokado.client.answers`);
what goes wrong is a `ShokadoError`.
"""

from shokado.client.client import AsyncClient, Client
from shokado.client.errors import (
    AccessDenied,
    Conflict,
    DeadlinePassed,
    FeaturesLacking,
    InvalidRequest,
    NoAnswer,
    NotFound,
    ServerFailure,
    ShokadoError,
    Unavailable,
    UnexpectedAnswer,
)
from shokado.client.operations import FeedbackEntry, Operation
from shokado.client.retries import NO_RETRIES, Retries

__all__ = [
    "NO_RETRIES",
    "AccessDenied",
    "AsyncClient",
    "Client",
    "Conflict",
    "DeadlinePassed",
    "FeaturesLacking",
    "FeedbackEntry",
    "InvalidRequest",
    "NoAnswer",
    "NotFound",
    "Operation",
    "Retries",
    "ServerFailure",
    "ShokadoError",
    "Unavailable",
    "UnexpectedAnswer",
]
