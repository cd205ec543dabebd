"""What feedback counts for the segments of its row: sums from which `segment_figures` makes rates.

entry, what its id says of the row --> levels by feature --> counts of each level, with the entry's settlement
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from configuration.segment_settings import SegmentSettings
from runners.artefacts.card import Card
from runners.artefacts.scores import Label, errors_of, positions_said
from runners.inputs.columns import Text
from shokado.experiments.figures import Counted
from shokado.experiments.row_levels import FeatureLevels, RowLevels, SealedLevels, levels_of, row_levels
from shokado.stores.level_counts import LevelCount

_MOST_CARDS = 64
"""Versions whose levels are remembered: more than a server has in memory."""


class SegmentCounted(StrEnum):
    """What is added up of each level, beside what `Counted` has of labels, rewards and squared errors.

    Positive is the second of two classes.
    """

    POSITIVES = "positives"
    """Labels of the positive class."""
    SELECTED = "selected"
    """Labelled rows for which the positive class was predicted."""
    TRUE_POSITIVES = "true_positives"
    """Those of them whose label is positive."""
    PROBABILITY = "probability"
    """The sum of the probabilities that were predicted for the positive class."""
    ERROR = "error"
    """The sum of predicted value less label."""


_FROM_FEEDBACK = (
    Counted.FEEDBACK, Counted.CLASS_LABELS, Counted.CORRECT, Counted.REWARDS, Counted.REWARD_SUM,
    Counted.VALUE_LABELS, Counted.SQUARED_ERROR, Counted.SQUARED_ERROR_SQUARED,
)  # fmt: skip


class UnknownSegment(Exception):
    """Feedback says the level of a feature that it cannot say it of; the message says why."""


class Segmenting:
    """Finds the levels of rows as the settings have them. Make one per worker."""

    def __init__(self, settings: SegmentSettings) -> None:
        self._settings = settings
        self._known: dict[int, tuple[Card, RowLevels | None]] = {}

    def of(self, card: Card) -> RowLevels | None:
        """What finds the levels of this version's rows; None where it takes none of the features."""
        if not self._settings.features:
            return None
        found = self._known.get(id(card))
        if found is None:
            if len(self._known) >= _MOST_CARDS:
                self._known.clear()
            found = self._known[id(card)] = card, row_levels(self._settings, card)
        return found[1]

    def levels(self, card: Card, sealed: SealedLevels | None, row: int, told: Mapping[str, Any]) -> dict[str, str]:
        """The levels of a row by `FeatureLevels.key`: as its id has them, and `told` by feedback.

        Raises `UnknownSegment` for a level of a feature that is not set up, or that the version takes itself.
        """
        found = self.of(card)
        said = dict(found.said(sealed, row)) if found is not None and sealed is not None else {}
        for feature, value in told.items():
            levels = self._told_by_feedback(card, feature)
            said[levels.key] = levels.level_of(value)
        return said

    def _told_by_feedback(self, card: Card, feature: str) -> FeatureLevels:
        levels = levels_of(self._settings, card, feature) if feature in self._settings.features else None
        if levels is None:
            known = ", ".join(self._settings.features) or "no feature"
            raise UnknownSegment(
                f"segments has {feature[:64]!r}, of which no levels are set up; segments.features has {known}"
            )
        if any(column.name == feature and not isinstance(column, Text) for column in card.row_format.schema.columns):
            raise UnknownSegment(
                f"segments has {feature!r}, which version {card.version} has in its rows: leave it out"
            )
        return levels


NO_SEGMENTS = Segmenting(SegmentSettings())


def is_binary(card: Card) -> bool:
    """Whether one of two classes is predicted for a row, of which the second is the positive one."""
    return card.task.has_threshold and not card.outputs


def segment_counts(
    card: Card, version: str, levels: Mapping[str, str], outcomes: tuple[float, ...], label: Label | None,
    observed: Mapping[Counted, float],
) -> dict[LevelCount, float]:  # fmt: skip
    """What an entry adds for the levels of its row.

    Args:
        levels: see `Segmenting.levels`.
        outcomes: what the id carries of the row, where the entry has a label.
        observed: what the entry adds to the version's counts.
    """
    counts: dict[str, float] = {name: observed[name] for name in _FROM_FEEDBACK if name in observed}
    if label is not None and is_binary(card):
        (positive,) = positions_said(card, label)
        selected = outcomes[0] >= card.positive_from
        counts |= {SegmentCounted.POSITIVES: positive, SegmentCounted.SELECTED: selected}
        counts[SegmentCounted.TRUE_POSITIVES] = positive and selected
        if card.task.has_probabilities:
            counts[SegmentCounted.PROBABILITY] = outcomes[0]
    elif label is not None and not card.classes and not card.outputs:
        counts[SegmentCounted.ERROR] = -errors_of(card, outcomes, label)[0]
    return {
        LevelCount(version, feature, level, str(name)): float(number)
        for feature, level in levels.items()
        for name, number in counts.items()
    }
