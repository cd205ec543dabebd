"""Finished predictions, for encoders."""

from typing import Any

import numpy as np

from runners.artefacts.card import Card
from shokado.dialects.dialect import AnswerFacts
from shokado.dispatch.reason import Reason
from shokado.dispatch.request import Origin, Prediction

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
