"""Columns of logged rows beside those of others, each with the verdict that a server would give of it. Pure.

A server counts in the bins of its version's reference; here they are made of the rows that are compared with, in the
same way, so that both say the same of the same rows.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configuration.drift_settings import DriftSettings
from runners.artefacts.card import Card
from runners.artefacts.reference import Levels, Numbers, lengths_of
from runners.artefacts.scores import score_names
from runners.inputs.columns import Category
from runners.inputs.rows import Rows
from shokado.drift.divergence import Divergence, DriftVerdict, compared, verdict_of
from shokado.lifecycle.importing.reference_data import PROBABILITIES, bins_of, column_of, quantiles
from shokado.request_log.exporting import FEATURE, SCORE


@dataclass(frozen=True, eq=False)
class ComparedColumn:
    """A feature or a score of both sides.

    Attributes:
        name: as the columns of `shokado log export`.
        reference: the other side's values, (rows,): numbers, of texts their lengths, of levels the level or None.
        served: the same of logged rows.
        is_category: whether its values have no order.
        divergence: None where either side has too few rows.
    """

    name: str
    reference: NDArray[Any]
    served: NDArray[Any]
    is_category: bool
    divergence: Divergence | None
    verdict: DriftVerdict


@dataclass(frozen=True, eq=False)
class _Column:
    name: str
    reference: NDArray[Any]
    served: NDArray[Any]
    bins: Numbers | Levels


def compare(
    card: Card,
    left_out: frozenset[str],
    rows: tuple[Rows, Rows],
    scores: tuple[NDArray[Any], NDArray[Any]] | None,
    settings: DriftSettings,
) -> list[ComparedColumn]:
    """The columns, features first.

    Args:
        card: what the rows are read by.
        left_out: features that are not compared.
        rows: of the reference, and of the log, (rows, features).
        scores: likewise, (rows, scores of a row); None where the reference has none.
        settings: their threshold, and their error rate, which all columns together have.
    """
    columns = []
    for at, feature in enumerate(card.features):
        if feature.name not in left_out:
            reference, served = (column_of(side[:, at], feature) for side in rows)
            columns.append(
                (at, _Column(FEATURE + feature.name, reference, served, bins_of("the reference", feature, reference)))
            )
    if scores is not None:
        for at, name in enumerate(score_names(card)):
            reference, served = (side[:, at] for side in scores)
            finite = reference[np.isfinite(reference)]
            if len(finite):
                bins = PROBABILITIES if card.task.has_probabilities else quantiles(finite)
                columns.append((-1, _Column(SCORE + name if name != "score" else name, reference, served, bins)))
    error_rate = settings.error_rate / max(1, len(columns))
    return [_compared(card, at, column, settings.threshold, error_rate) for at, column in columns]


def _compared(card: Card, at: int, column: _Column, threshold: float, error_rate: float) -> ComparedColumn:
    bins = column.bins
    divergence = compared(bins.count(column.reference), bins.count(column.served), bins.ordered, error_rate)
    reference, served = (_shown(card, at, bins, side) for side in (column.reference, column.served))
    return ComparedColumn(
        column.name, reference, served, isinstance(bins, Levels), divergence, verdict_of(divergence, threshold)
    )


def _shown(card: Card, at: int, bins: Numbers | Levels, values: NDArray[Any]) -> NDArray[Any]:
    """As a person reads them."""
    if isinstance(bins, Numbers):
        return lengths_of(values) if bins.of == "characters" else values.astype(np.float64)
    kind = card.row_format.schema.columns[at]
    spelt = [
        kind.spell(value) if isinstance(kind, Category) else None if np.isnan(value) else f"{value:g}"
        for value in values.tolist()
    ]
    return np.array(spelt, dtype=object)
