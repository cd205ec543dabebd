"""Predictions and batches that have ended, as observers are told of them."""

from typing import Any

import numpy as np

from runners.artefacts.scores import Scores
from runners.batching.observer import EndedBatch, ReleaseReason
from shokado.dispatch.observers import Failure, PredictionObserver
from shokado.dispatch.reason import Reason
from shokado.dispatch.request import Origin, Prediction
from tests.support.cards import make_card


def prediction_of(version: str = "v1", rows: int = 1, latency_s: float = 0.01) -> Prediction:
    """An answered one, of rows with two features."""
    origin = Origin(version, "production", 1, make_card(version=version))
    scores = np.linspace(0, 1, rows, dtype=np.float32)
    return Prediction(
        b"\0" * 8 * rows, rows, lambda _: None, scores=scores, origin=origin, reason=Reason.SPLIT, latency_s=latency_s
    )


def batch_of(
    version: str = "v1",
    rows: int = 1,
    release: ReleaseReason = ReleaseReason.IDLE,
    scores: Scores | None = None,
    waits_s: tuple[float, ...] = (0.0,),
    seconds: float = 0.001,
    failures: dict[int, str] | None = None,
) -> EndedBatch:
    return EndedBatch(version, np.zeros((rows, 2), np.float32), scores, failures or {}, waits_s, release, seconds)


class Listener(PredictionObserver):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []
        """Each: the event, and what came with it."""

    def started(self, version: str, number: int) -> None:
        self.heard.append(("started", version, number))

    def answered(self, version: str, predictions: Any) -> None:
        self.heard.append(("answered", version, *predictions))

    def failed(self, failures: Any) -> None:
        self.heard.append(("failed", *failures))

    def cancelled(self, version: str, predictions: Any) -> None:
        self.heard.append(("cancelled", version, *predictions))

    def batch(self, batch: EndedBatch) -> None:
        self.heard.append(("batch", batch))

    @property
    def failures(self) -> list[Failure]:
        return [failure for event, *what in self.heard if event == "failed" for failure in what]
