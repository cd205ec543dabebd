"""Rows to compare a converted file with its framework over.

The test part of the data set that the model was trained on; for a model of unknown origin

    texts     its input example, and texts of its own vocabulary, made hard; see `probing_texts`
    numbers   its input example, and rows over all that is known of its columns' range and on both sides of its trees'
              thresholds, or like those that it has learned; see `probing_rows`
    both      numbers, beside each of which stands some text
"""

import numpy as np
from numpy.typing import NDArray

from runners.inputs.rows import Rows
from runners.inputs.schema import Feature
from shokado.lifecycle import datasets
from shokado.lifecycle.importing.conversion import ModelDescription
from shokado.lifecycle.importing.framework import Framework, Scores
from shokado.lifecycle.importing.input_example import InputExample
from shokado.lifecycle.importing.label_rules import chosen
from shokado.lifecycle.importing.probing_rows import (
    Columns,
    Trees,
    learned_rows,
    probing_rows,
    remembered,
    rows_at,
    rows_at_changes,
    rows_like,
    rows_near,
    sentinels_of,
)
from shokado.lifecycle.importing.probing_texts import probing_texts
from shokado.lifecycle.importing.recoding import edges_of
from shokado.lifecycle.importing.statsmodels_results import FittedLine
from shokado.lifecycle.importing.text_conversion import vectorizers_of

RANDOM_ROWS = 1000
"""Rows that are drawn, so that most of a model is reached."""
RANDOM_SEED = 3
MISSING_SHARE = 0.1
"""Part of the values that are missing where they may be: rows of few features without a gap, and of many with several.
"""
NEAR_ROWS = 200
"""Rows near the known ones, of each kind."""
CHANGES = 200
"""How many changes of the score are looked for in trees whose thresholds are not of the input's columns."""
LAST_OF = {"boolean": 1.0, "category": 9.0}
"""What a column without levels holds at least, from 0 on."""
PAIRS = 100
"""Pairs of rows of different classes, between which a tie is looked for."""
HALVINGS = 12
"""How often the way to where a probability is between the extremes is halved."""


def groups_of_rows(framework: Framework, example: InputExample, trees: Trees | None) -> tuple[Rows, ...]:
    """One group, or a second one of rows near the example, where its numbers are large and their range is not known.

    They are float64 [N, features], float32 where the framework is given no more, or with texts among them objects.
    """
    description = framework.description
    if description.dataset in datasets.NAMES:
        return (datasets.load(str(description.dataset)).test.rows,)
    if description.row_format.text_field is not None:
        return (np.array(_texts(framework, example.texts), dtype=object).reshape(-1, 1),)
    return (_mixed(framework, example),) if description.has_texts else _of_numbers(framework, example, trees)


def _mixed(framework: Framework, example: InputExample) -> Rows:
    """Rows of dtype object [N, features]; the input example's texts are in the first ones."""
    description, random = framework.description, np.random.default_rng(RANDOM_SEED)
    numbers = Framework(framework.model, description.without_texts())
    rows = np.vstack(_of_numbers(numbers, example.without_texts(), None)).astype(object)
    for at, feature in enumerate(description.features):
        if feature.type == "text":
            known = example.texts_of(feature.name)[: len(rows)]
            drawn = _texts(framework, known)
            rows[:, at] = [*known, *(drawn[slot] for slot in random.integers(0, len(drawn), len(rows) - len(known)))]
    return rows


def _of_numbers(framework: Framework, example: InputExample, trees: Trees | None) -> tuple[Rows, ...]:
    known = example.rows
    columns = _columns(framework, known)
    groups = [np.vstack([known, _drawn(framework, columns, trees)])]
    if len(known) == 1:
        groups.append(rows_near(columns, known[0], NEAR_ROWS, RANDOM_SEED))
    return tuple(_as_given(framework, rows) for rows in groups if len(rows))


def _texts(framework: Framework, examples: list[str]) -> list[str]:
    vectorizers = vectorizers_of(framework.model)
    vocabulary = [str(term) for vectorizer in vectorizers for term in sorted(vectorizer.vocabulary_)]
    return probing_texts(vocabulary, examples, RANDOM_ROWS, RANDOM_SEED)


def _columns(framework: Framework, known: Rows) -> Columns:
    """What is known of the columns from the description, what the model remembers, and rows of the example."""
    description = framework.description
    width = len(description.features)
    unknown = np.full(width, np.nan)
    columns = Columns(unknown, unknown, _whole(description), description.digits.told_apart, description.is_wide)
    columns = columns.widened(remembered(framework.model, width))
    if len(known) > 1 or not np.isfinite(columns.low).all():
        columns = columns.widened(known)
    last = np.array([_last(feature) for feature in description.features])
    return columns.widened(np.vstack([last * 0, last]))


def _drawn(framework: Framework, columns: Columns, trees: Trees | None) -> Rows:
    """Rows of all that is known of a model but its example: float64, any number in a category's column."""
    model, description = framework.model, framework.description

    def scores(rows: Rows) -> Scores:
        rows = description.as_given(_levelled(description, np.fmax(rows, framework.floors)))
        return framework.scores(rows.astype(description.given))

    asked = scores if framework.tells_doubles_apart else None
    drawn = probing_rows(columns, trees, asked, sentinels_of(model), RANDOM_ROWS, RANDOM_SEED)
    for column, value in (model.constants if isinstance(model, FittedLine) else {}).items():
        # Drawn far and wide, it would make the values' spread, and so what may differ, many times as large.
        drawn[:, column] = value
    booleans = np.array([feature.type == "boolean" for feature in description.features])
    drawn[:, booleans] = np.clip(drawn[:, booleans], 0, 1)
    if trees is None and asked is not None:
        drawn = np.vstack([drawn, rows_at_changes(drawn, scores, CHANGES, RANDOM_SEED)])
    if framework.has_steps:
        drawn = np.vstack(
            [drawn, rows_at(drawn, edges_of(model, len(description.features)), columns.whole, RANDOM_SEED)]
        )
    if len(learned := learned_rows(model)):
        drawn = np.vstack([drawn, rows_like(learned, RANDOM_ROWS, RANDOM_SEED)])
    return drawn


def _as_given(framework: Framework, rows: Rows) -> Rows:
    """The rows as clients may have them, and as the framework is given them."""
    description = framework.description
    taken = np.fmin(np.fmax(rows, framework.floors), framework.ceilings)
    rows = _with_gaps(description, np.where(np.isnan(rows), rows, taken))
    narrow = np.array(description.narrow or [False] * len(description.features))
    rows[:, narrow] = rows[:, narrow].astype(np.float32)
    return np.asarray(description.as_given(rows).astype(description.given))


def _with_gaps(description: ModelDescription, rows: Rows) -> Rows:
    """The rows with a level in each category, and gaps where values may be missing."""
    random = np.random.default_rng(RANDOM_SEED)
    rows = _levelled(description, rows)
    for at, feature in enumerate(description.features):
        if feature.nullable:
            rows[1:, at][random.random(len(rows) - 1) < MISSING_SHARE] = np.nan
    return rows


def _levelled(description: ModelDescription, rows: Rows) -> Rows:
    """The rows with a number of a level in each category: any other number becomes one, always the same."""
    rows = rows.copy()
    for at, feature in enumerate(description.features):
        if feature.levels:
            rows[:, at] = np.abs(np.rint(rows[:, at])) % (_last(feature) + 1)
    return rows


def _last(feature: Feature) -> float:
    """What such a column holds at least, from 0 on; NaN where that is not known."""
    if feature.levels:
        return float(len(feature.levels) - (not feature.other))
    return LAST_OF.get(feature.type, np.nan)


def _whole(description: ModelDescription) -> NDArray[np.bool_]:
    return np.array([feature.type != "float" for feature in description.features])


def rows_between_classes(framework: Framework, rows: Rows, scores: Scores) -> Rows:
    """Rows near to where the class changes, where probabilities are neither 0 nor 1: pairs of rows, brought together.

    Of rows far from it, a model of another offset gives the very same scores.
    """
    description = framework.description
    classes = _side(description, scores)
    pairs = np.random.default_rng(RANDOM_SEED).permutation(len(rows))
    pairs = pairs[: len(pairs) // 2 * 2].reshape(-1, 2)
    one, other = pairs[(classes[pairs[:, 0]] != classes[pairs[:, 1]]).any(axis=1)][:PAIRS].T
    near, far, side = rows[one].copy(), rows[other].copy(), classes[one]
    whole = _whole(description)
    for _ in range(HALVINGS if len(near) else 0):
        middle = description.as_served((near + far) / 2).astype(rows.dtype)
        middle = description.as_given(middle).astype(rows.dtype)
        middle[:, whole] = np.rint(middle[:, whole])
        same = (_side(description, framework.scores(middle)) == side).all(axis=1)
        near[same], far[~same] = middle[same], middle[~same]
    return np.vstack([near, far])


def _side(description: ModelDescription, scores: Scores) -> NDArray[np.int64]:
    """The position of each row's class, [N, 1], or of each of its labels', [N, labels]."""
    if scores.shape[1] > 1 and not description.task.has_labels:
        return np.asarray(scores.argmax(axis=1)[:, None])
    return chosen(description.task, scores, description.positive_from).reshape(len(scores), -1)
