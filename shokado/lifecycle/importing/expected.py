"""Expected scores: rows, what the framework says of them, and how far a converted file may be from that."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runners.inputs.rows import Rows
from shokado.lifecycle import datasets
from shokado.lifecycle.errors import VerificationFailed
from shokado.lifecycle.importing import multilabel
from shokado.lifecycle.importing.conversion import Output
from shokado.lifecycle.importing.framework import Framework, Scores
from shokado.lifecycle.importing.input_example import InputExample
from shokado.lifecycle.importing.own_models import own_model
from shokado.lifecycle.importing.probing_rows import Trees
from shokado.lifecycle.importing.verification_rows import groups_of_rows, rows_between_classes

OUTSIDE = 1 / 6
"""Share of the values that are too small, and of those that are too large, to say how far they usually are apart."""
MARGIN_SHARE = 1 / 20
"""The same of scores of a decision function."""
ROUNDING = 2e-6
"""Share of the largest value: what some thirty roundings to float32 add up to."""

_USUAL = 1e-4
"""Tolerance of an import that names no other, in units of the values' spread."""

_MORE_ROWS = (
    "An input example of one row does not tell how far its large numbers lie from each other; if far enough, log one "
    "of several rows. "
)


@dataclass(frozen=True, eq=False)
class Expected:
    """What the framework says of some rows, and each row's largest difference of a score that is allowed.

    `rows` are float64, or texts, as the framework is asked; a server packs them in the model's precision. `labels` are
    positions of classes, [N], of several labels [N, labels], and None for values.
    """

    rows: Rows
    scores: Scores
    labels: NDArray[np.int64] | None
    allowed: Scores
    """The largest difference that each row's scores may have: [N, 1], or of several values [N, outputs]."""
    advice: str = ""
    """What may help where rows lose digits that they need."""
    close: float = 0.0
    """Without probabilities: how near to another label a row is whose label rounding may decide."""


def expected_of(framework: Framework, example: InputExample, trees: Trees | None, tolerance: float) -> Expected:
    """Ask the framework. Raises `VerificationFailed` where it does not answer, or with something else than scores."""
    try:
        return _expected(framework, example, trees, tolerance)
    except (ValueError, TypeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise VerificationFailed(f"The framework's own model does not score all rows of numbers: {reason}") from error


def expected_of_rows(framework: Framework, rows: Rows, tolerance: Scores) -> Expected:
    """Ask the framework for rows that somebody has chosen; `tolerance` is of the receipt, one number or (outputs,).

    What float32 cannot hold is left out. Raises `VerificationFailed` as `expected_of` does.
    """
    task = framework.description.task
    try:
        scores = framework.scores(rows)
        if task.has_probabilities:
            allowed = np.full((len(rows), 1), tolerance.max())
            return Expected(rows, scores, framework.labels(rows, scores), allowed)
        held = _held(scores)
        rows, scores = rows[held], scores[held]
        if not len(rows):
            raise VerificationFailed("The framework gives no row a score that float32 holds.")
        allowed = np.maximum(tolerance, _allowed(scores, _USUAL))
        if task.is_of_values:
            return Expected(rows, scores, None, allowed)
        widest = allowed.max(axis=1, keepdims=True)
        close = 2 * float(np.quantile(widest, MARGIN_SHARE))
        return Expected(rows, scores, framework.labels(rows, scores), widest, close=close)
    except (ValueError, TypeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise VerificationFailed(f"The framework's own model does not score all rows: {reason}") from error


def _expected(framework: Framework, example: InputExample, trees: Trees | None, tolerance: float) -> Expected:
    model, description = framework.model, framework.description
    groups = groups_of_rows(framework, example, trees)
    rows = np.vstack(groups)
    scores = framework.scores(rows)
    if scores.shape[1] != (expected := Output.of(description).columns):
        raise VerificationFailed(
            f"The framework's own model gives {scores.shape[1]} numbers a row, where {expected} belong. "
            "Nothing was stored."
        )
    if any(feature.levels for feature in description.features) and own_model(model) is None:
        example.check(framework)
    advice = _MORE_ROWS if len(groups) > 1 else ""
    if description.task.is_of_values:
        return _of_values(groups, scores, tolerance, advice)
    if not description.task.has_probabilities:
        held = _held(scores)
        rows, scores = rows[held], scores[held]
    if not description.has_texts and description.dataset not in datasets.NAMES:
        rows = np.vstack([rows, rows_between_classes(framework, rows, scores)])
        scores = framework.scores(rows)
    if multilabel.passes_labels_on(model):
        # Where rounding decides a label, it decides what the labels behind it are told.
        held = np.asarray((np.abs(scores - description.positive_from) > tolerance).all(axis=1))
        rows, scores = rows[held], scores[held]
    labels = framework.labels(rows, scores)
    if description.task.has_probabilities:
        return Expected(rows, scores, labels, np.full((len(rows), 1), tolerance), advice)
    # Scores of all classes are of one size. Far from its vectors, a kernel is nearly the same everywhere.
    allowed = _allowed(scores, tolerance, MARGIN_SHARE).max(axis=1, keepdims=True)
    return Expected(rows, scores, labels, allowed, advice, 2 * float(np.quantile(allowed, MARGIN_SHARE)))


def _of_values(groups: tuple[Rows, ...], scores: Scores, tolerance: float, advice: str) -> Expected:
    """Each group of rows has a measure of its own, and what float32 cannot hold is left out."""
    ends = np.cumsum([len(rows) for rows in groups])[:-1]
    allowed = np.vstack([_allowed(values, tolerance) for values in np.split(scores, ends)])
    held = _held(scores)
    return Expected(np.vstack(groups)[held], scores[held], None, allowed[held], advice)


def _held(values: Scores) -> NDArray[np.bool_]:
    return np.asarray((np.abs(values) < np.finfo(np.float32).max / 2).all(axis=1))


def _allowed(values: Scores, tolerance: float, outside: float = OUTSIDE) -> Scores:
    """A difference is measured by the spread of the middle two thirds of the values, a value far out by its distance.

    Otherwise a few rows far out would make all others' differences look small. Less than what rounding takes of a value
    is nothing. Each of several values a row has its own measure.
    """
    low, middle, high = np.quantile(values[_held(values)], (outside, 1 / 2, 1 - outside), axis=0)
    spread = np.maximum((high - low) / 2, np.abs(values - middle) / 10)
    allowed = np.maximum(tolerance * spread, ROUNDING * np.abs(values))
    return np.asarray(np.maximum(allowed, np.finfo(np.float32).tiny))
