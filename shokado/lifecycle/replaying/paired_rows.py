"""Paired rows: what was answered and what the candidate answers, of the same rows, as arrays.

In: logged calls, and what became of them. Out: a pair for each row that has both scores, with its label where one came.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runners.artefacts.card import Card
from runners.artefacts.scores import (
    UnfitLabel,
    differences_of,
    positions_of,
    positions_said,
    squared_error_of,
    values_apart,
)
from shokado.lifecycle.replaying.candidate import ReplayedCall
from shokado.lifecycle.replaying.logged_calls import LoggedCall

Labels = Mapping[tuple[str, int], Any]
"""Values of JSON by prediction id and index."""


@dataclass(frozen=True, eq=False)
class PairedRows:
    """Fields have a row each, in the order of the calls.

    Attributes:
        call: the position of its call.
        index: its position in its request.
        original: float64, (rows, scores of a row).
        candidate: likewise.
        difference: absolute, as `runners.artefacts.scores.differences_of` has it.
        disagrees: whether its label, or values, are another's.
        original_quality: of labelled rows, 1 where the label was right and 0 where not, or the squared error; else NaN.
        candidate_quality: likewise.
        unfit_labels: how many labels say nothing about such a model.
    """

    call: NDArray[np.int64]
    index: NDArray[np.int64]
    original: NDArray[np.float64]
    candidate: NDArray[np.float64]
    difference: NDArray[np.float64]
    disagrees: NDArray[np.bool_]
    original_quality: NDArray[np.float64]
    candidate_quality: NDArray[np.float64]
    unfit_labels: int

    def __len__(self) -> int:
        return len(self.call)

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """Which rows have a label."""
        return ~np.isnan(self.original_quality)


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Those of one call."""

    original: NDArray[np.float64]
    candidate: NDArray[np.float64]
    difference: NDArray[np.float64]
    disagrees: NDArray[np.bool_]
    qualities: NDArray[np.float64]
    unfit: int


def paired(calls: Sequence[LoggedCall], replayed: Sequence[ReplayedCall], labels: Labels) -> PairedRows:
    """The pairs of all calls that the candidate has answered, at least one."""
    answered = [at for at, one in enumerate(replayed) if one.scores is not None]
    pairs = [_pairs_of(calls[at], replayed[at], labels) for at in answered]
    counts = [len(one.difference) for one in pairs]

    def joined(of: Callable[[_Pairs], NDArray[Any]]) -> NDArray[Any]:
        return np.concatenate([of(one) for one in pairs])

    return PairedRows(
        call=np.repeat(np.array(answered, dtype=np.int64), counts),
        index=np.concatenate([np.arange(count) for count in counts]),
        original=joined(lambda one: one.original),
        candidate=joined(lambda one: one.candidate),
        difference=joined(lambda one: one.difference),
        disagrees=joined(lambda one: one.disagrees),
        original_quality=joined(lambda one: one.qualities[:, 0]),
        candidate_quality=joined(lambda one: one.qualities[:, 1]),
        unfit_labels=sum(one.unfit for one in pairs),
    )


def _pairs_of(call: LoggedCall, replayed: ReplayedCall, labels: Labels) -> _Pairs:
    card, before, after = call.origin.card, call.scores, replayed.scores
    assert after is not None
    positions = positions_of(card.task, before, card.positive_from) if card.classes else None
    if positions is None:
        disagrees = values_apart(card, after, before)
    else:
        disagrees = (positions != replayed.positions).reshape(len(positions), -1).any(axis=1)
    qualities, unfit = _qualities(call, positions, replayed, labels)
    return _Pairs(
        original=before.astype(np.float64).reshape(len(before), -1),
        candidate=after.astype(np.float64).reshape(len(after), -1),
        difference=differences_of(card, after, before),
        disagrees=disagrees,
        qualities=qualities,
        unfit=unfit,
    )


def _qualities(
    call: LoggedCall, positions: NDArray[Any] | None, replayed: ReplayedCall, labels: Labels
) -> tuple[NDArray[np.float64], int]:
    """How right both were of each row, (rows, 2), and how many labels are none of the model's."""
    found = np.full((len(call.batch), 2), np.nan)
    unfit = 0
    for index in range(len(found)):
        label = labels.get((call.prediction_id, index))
        if label is None:
            continue
        try:
            if positions is not None:
                said = positions_said(call.origin.card, label)
                found[index] = [_same(side, index, said) for side in (positions, replayed.positions)]
            else:
                found[index] = [_error(call.origin.card, side, index, label) for side in (call.scores, replayed.scores)]
        except UnfitLabel:
            unfit += 1
    return found, unfit


def _same(positions: NDArray[Any] | None, index: int, said: list[int]) -> float:
    assert positions is not None
    return float(np.atleast_1d(positions[index]).tolist() == said)


def _error(card: Card, scores: NDArray[Any] | None, index: int, label: Any) -> float:
    assert scores is not None
    return squared_error_of(card, np.atleast_1d(scores[index]).tolist(), label)
