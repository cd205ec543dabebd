"""What explanations are made of: a contribution for each feature, which add up to the score.

base + the sum of a row's contributions = what is explained, which is the score, or the margin behind it
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from runners.artefacts.card import Card

Values = NDArray[np.float64]


class ExplanationMethod(StrEnum):
    """How contributions were found."""

    TREES = "trees"
    """Exactly, by XGBoost itself, from how many training rows took each branch: Lundberg et al., From local
    explanations to global understanding with explainable AI for trees, Nature Machine Intelligence 2, 2020."""
    ENUMERATED = "enumerated"
    """Exactly, over all sets of features, against background rows."""
    SAMPLED = "sampled"
    """Over drawn orders of the features, against background rows; each contribution has a standard error."""


class ExplanationScale(StrEnum):
    """What contributions add up to."""

    MARGIN = "margin"
    """The sum of the trees' leaves, which a link makes the score of."""
    PROBABILITY = "probability"
    DECISION = "decision"
    """What a decision function gives."""
    VALUE = "value"

    @classmethod
    def of_scores(cls, card: Card) -> "ExplanationScale":
        """The scale of the version's own scores."""
        if card.task.is_of_values:
            return cls.VALUE
        return cls.PROBABILITY if card.task.has_probabilities else cls.DECISION


@dataclass(frozen=True, eq=False)
class Contributions:
    """The contributions of some rows, all found in the same way.

    Attributes:
        base: what is explained where no feature is known, (outputs,).
        explained: (rows, outputs).
        contributions: (rows, features, outputs).
        errors: the standard error of each that comes of sampling, of the same shape; None where there is none.
        link: how a margin becomes the score; empty for other scales.
        background_rows: how many rows stood for features that are not known; 0 where trees know it themselves.
    """

    method: ExplanationMethod
    scale: ExplanationScale
    base: Values
    explained: Values
    contributions: Values
    errors: Values | None = None
    link: str = ""
    background_rows: int = 0


def joined(parts: Sequence[Contributions]) -> Contributions:
    """The contributions of all rows, of which each part has some; found in the same way, and none sampled."""
    return replace(
        parts[0],
        explained=np.concatenate([part.explained for part in parts]),
        contributions=np.concatenate([part.contributions for part in parts]),
    )
