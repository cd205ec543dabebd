"""Finished predictions, for encoders."""

from typing import Any

import numpy as np

from dispatch.assignment import Reason
from dispatch.request import Origin, Prediction
from protocols.dialect import AnswerFacts
from runners.card import Card

FACTS = AnswerFacts("request-1", "prediction-1", 1.25)


def prediction(
    card: Card, scores: list[Any], version: str = "v1", environment: str = "production", generation: int = 7
) -> Prediction:
    origin = Origin(version, environment, generation, card)
    return Prediction(
        b"",
        len(scores),
        lambda _: None,
        scores=np.array(scores, dtype=np.float32),
        origin=origin,
        reason=Reason.SPLIT,
    )
