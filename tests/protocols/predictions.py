"""Finished predictions, for encoders."""

from typing import Any

import numpy as np

from dispatch.assignment import Assignment, Reason
from dispatch.request import Prediction, PredictionRequest
from protocols.dialect import AnswerFacts
from runners.card import Card

FACTS = AnswerFacts("request-1", b"prediction-1", 1.25)


def prediction(card: Card, scores: list[Any]) -> Prediction:
    made = Prediction(
        PredictionRequest(b"", len(scores)), lambda _: None, card, Assignment("v1", Reason.SPLIT), "production", 7
    )
    made.scores = np.array(scores, dtype=np.float32)
    return made
