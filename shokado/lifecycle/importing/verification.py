"""Verification: a converted file must score and decide as the framework does, row by row, or the import is refused.

A loaded model, its description and the files' folder go in, a `Verification` per file comes out, and a few rows with
the framework's scores by which a server can check its engine again. The files are opened from disk with the engines
that serve them, and asked for the whole batch and for one row alone.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import xgboost
from numpy.typing import NDArray
from sklearn.multiclass import OneVsRestClassifier
from threadpoolctl import threadpool_limits

from runners.artefacts.card import ABOVE_HALF, Examples, FileKind, Verification
from runners.artefacts.scores import from_columns, to_columns
from runners.inputs.columns import Boolean, Category
from runners.inputs.schema import Feature
from shokado.lifecycle import datasets
from shokado.lifecycle.errors import UnsupportedModel, VerificationFailed
from shokado.lifecycle.importing import decisions
from shokado.lifecycle.importing.boosters import is_xgboost, scores_of
from shokado.lifecycle.importing.composites import compares_digits
from shokado.lifecycle.importing.conversion import ModelDescription, Output, is_composed, trained_names
from shokado.lifecycle.importing.graphs import INPUT
from shokado.lifecycle.importing.label_rules import chosen, own_labels
from shokado.lifecycle.importing.own_models import own_model
from shokado.lifecycle.importing.probing_rows import (
    Columns,
    cell_of,
    learned_rows,
    parts_of,
    probing_rows,
    remembered,
    rows_at,
    rows_at_changes,
    rows_like,
    rows_near,
    sentinels_of,
    trees_of,
)
from shokado.lifecycle.importing.probing_texts import probing_texts
from shokado.lifecycle.importing.recoding import edges_of, floors_of, gaps_of, mixes_columns
from shokado.lifecycle.importing.registry import LoadedModel
from shokado.lifecycle.importing.scaled_trees import SCALERS
from shokado.lifecycle.importing.text_conversion import vectorizers_of

EXAMPLE_ROWS = 32
"""Rows that go into the card: enough to take most paths through a tree, and a few KiB."""
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
FATAL = 4
"""ONNX Runtime's level of what it logs."""
FLOAT32_STEP = 2.0**-24
"""Distance between float32 numbers just below 1."""
OUTSIDE = 1 / 6
"""Share of the values that are too small, and of those that are too large, to say how far they usually are apart."""
MARGIN_SHARE = 1 / 20
"""The same of scores of a decision function."""
ROUNDING = 2e-6
"""Share of the largest value: what some thirty roundings to float32 add up to."""

_MORE_ROWS = (
    "An input example of one row does not tell how far its large numbers lie from each other; if far enough, log one "
    "of several rows. "
)

Scores = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Reference:
    """Rows, what the framework says of them, and each row's largest difference of a score that is allowed.

    `rows` are float64, or texts, as the framework is asked; a server packs them in the model's precision. `labels` are
    positions of classes, and empty for values.
    """

    rows: datasets.Rows
    scores: Scores
    labels: NDArray[np.int64] | None
    allowed: Scores
    """The largest difference that each row's scores may have: [N, 1], or of several values [N, outputs]."""
    advice: str = ""
    """What may help where rows lose digits that they need."""
    close: float = 0.0
    """Without probabilities: how near to another label a row is whose label rounding may decide."""


@dataclass(frozen=True)
class Verified:
    """What the card records of a verification.

    `close_calls` are the rows whose label is another than the framework's because their scores lie nearer to the
    threshold than float32 can tell.
    """

    files: dict[FileKind, Verification]
    examples: Examples
    close_calls: int = 0
    is_rounded: bool = False
    """Whether the model's trees compare in float64, and a column has numbers that float32 does not hold."""


def verify(
    source: LoadedModel, description: ModelDescription, folder: Path, kinds: tuple[FileKind, ...], tolerance: float
) -> Verified:
    """Compare every file's scores and labels with the model's own.

    Args:
        folder: where the files are.
        tolerance: largest difference of a probability; of a value, in units of the values' spread.

    Raises:
        VerificationFailed: a file differs by more than the tolerance, is not a number, gives another label, or has
            another shape.
    """
    # Small batches, many times: threads that wait for each other take longer than one.
    with threadpool_limits(1):
        reference = _reference(source, description, folder, tolerance)
        compared = {kind: _compare(kind, folder, source.model, description, reference) for kind in kinds}
    close_calls = max(found.close_calls for found in compared.values())
    receipts = {kind: found.receipt for kind, found in compared.items()}
    examples = _examples(reference, description)
    return Verified(receipts, examples, close_calls, _is_rounded(source.model, description, folder))


def _is_rounded(model: Any, description: ModelDescription, folder: Path) -> bool:
    if all(description.exact):
        return False
    if _compares_doubles(model):
        return True
    is_scaled = any(isinstance(part, SCALERS) for part in parts_of(model))
    return is_scaled and trees_of(onnx.load(folder / FileKind.ONNX.file_name)) is not None


def _reference(source: LoadedModel, description: ModelDescription, folder: Path, tolerance: float) -> Reference:
    model = source.model
    try:
        if description.row_format.text_field is not None:
            groups: tuple[datasets.Rows, ...] = (texts_for(source, description),)
        else:
            groups = rows_for(source, description, onnx.load(folder / FileKind.ONNX.file_name))
        rows = np.vstack(groups)
        scores = framework_scores(model, description, rows)
        if scores.shape[1] != (expected := Output.of(description).columns):
            raise VerificationFailed(
                f"The framework's own model gives {scores.shape[1]} numbers a row, where {expected} belong. "
                "Nothing was stored."
            )
        if any(feature.levels for feature in description.features) and own_model(model) is None:
            _check_example(source, description)
        advice = _MORE_ROWS if len(groups) > 1 else ""
        if description.task.is_of_values:
            return _of_values(groups, scores, tolerance, advice)
        if not description.task.has_probabilities:
            held = _held(scores)
            rows, scores = rows[held], scores[held]
        if description.row_format.text_field is None and description.dataset not in datasets.NAMES:
            rows = np.vstack([rows, _between_classes(model, description, rows, scores)])
            scores = framework_scores(model, description, rows)
        labels = own_labels(model, as_trained(model, description, rows), scores)
    except (ValueError, TypeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise VerificationFailed(f"The framework's own model does not score all rows of numbers: {reason}") from error
    if description.task.has_probabilities:
        return Reference(rows, scores, labels, np.full((len(rows), 1), tolerance), advice)
    # Scores of all classes are of one size. Far from its vectors, a kernel is nearly the same everywhere.
    allowed = _allowed(scores, tolerance, MARGIN_SHARE).max(axis=1, keepdims=True)
    return Reference(rows, scores, labels, allowed, advice, 2 * float(np.quantile(allowed, MARGIN_SHARE)))


def _of_values(groups: tuple[datasets.Rows, ...], scores: Scores, tolerance: float, advice: str) -> Reference:
    """Each group of rows has a measure of its own, and what float32 cannot hold is left out."""
    ends = np.cumsum([len(rows) for rows in groups])[:-1]
    allowed = np.vstack([_allowed(values, tolerance) for values in np.split(scores, ends)])
    held = _held(scores)
    return Reference(np.vstack(groups)[held], scores[held], None, allowed[held], advice)


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


def _between_classes(model: Any, description: ModelDescription, rows: datasets.Rows, scores: Scores) -> datasets.Rows:
    """Rows near to where the class changes, where probabilities are neither 0 nor 1: pairs of rows, brought together.

    Of rows far from it, a model of another offset gives the very same scores.
    """
    classes = _side(description, scores)
    pairs = np.random.default_rng(RANDOM_SEED).permutation(len(rows))
    pairs = pairs[: len(pairs) // 2 * 2].reshape(-1, 2)
    one, other = pairs[classes[pairs[:, 0]] != classes[pairs[:, 1]]][:PAIRS].T
    near, far, side = rows[one].copy(), rows[other].copy(), classes[one]
    whole = _whole(description)
    for _ in range(HALVINGS if len(near) else 0):
        middle = as_served(description, (near + far) / 2).astype(rows.dtype)
        middle = description.as_given(middle).astype(rows.dtype)
        middle[:, whole] = np.rint(middle[:, whole])
        same = _side(description, framework_scores(model, description, middle)) == side
        near[same], far[~same] = middle[same], middle[~same]
    return np.vstack([near, far])


def _side(description: ModelDescription, scores: Scores) -> NDArray[np.int64]:
    return scores.argmax(axis=1) if scores.shape[1] > 1 else chosen(scores, description.positive_from)


def _examples(reference: Reference, description: ModelDescription) -> Examples:
    """The first rows and their scores as a server gives them: one number each, or one per class or value."""
    rows, scores = as_served(description, reference.rows[:EXAMPLE_ROWS]), reference.scores[:EXAMPLE_ROWS]
    plain: Any = description.row_format.unbatched(rows)
    return Examples(rows=plain, scores=from_columns(description.task, scores).tolist())


def as_served(description: ModelDescription, rows: datasets.Rows) -> datasets.Rows:
    """The rows as a server packs them: float32 or float64, or texts."""
    return rows.astype(description.row_format.dtype)


def texts_for(source: LoadedModel, description: ModelDescription) -> datasets.Rows:
    """The texts to compare over, str (dtype object) [N, 1].

    The test part of the data set that the model was trained on; for a model of unknown origin its input example and
    texts of its own vocabulary, made hard; see `probing_texts`.
    """
    if description.dataset in datasets.NAMES:
        return datasets.load(str(description.dataset)).test.rows
    vocabulary = [str(term) for vectorizer in vectorizers_of(source.model) for term in sorted(vectorizer.vocabulary_)]
    given: Any = [] if source.example is None else np.asarray(source.example, dtype=object).ravel()
    examples = [text for text in given if isinstance(text, str)]
    texts = probing_texts(vocabulary, examples, RANDOM_ROWS, RANDOM_SEED)
    return np.array(texts, dtype=object).reshape(-1, 1)


def rows_for(source: LoadedModel, description: ModelDescription, graph: onnx.ModelProto) -> tuple[datasets.Rows, ...]:
    """The groups of rows to compare over, [N, features]: float64, or float32 where the framework is given no more.

    The test part of the data set that the model was trained on; for a model of unknown origin its input example, and
    rows over all that is known of its columns' range and on both sides of its trees' thresholds, or like those that it
    has learned; and rows near the example, where its numbers are large and their range is not known. See
    `probing_rows`.
    """
    if description.dataset in datasets.NAMES:
        return (datasets.load(str(description.dataset)).test.rows,)
    width = len(description.features)
    unknown = np.full(width, np.nan)
    told_apart = description.digits.exact | description.digits.decimal
    columns = Columns(unknown, unknown, _whole(description), told_apart, description.is_wide)
    columns = columns.widened(remembered(source.model, width))
    known = _example_rows(description, source.example)
    if len(known) > 1 or not np.isfinite(columns.low).all():
        columns = columns.widened(known)
    booleans = np.array([feature.type == "boolean" for feature in description.features])
    last = np.array([_last(feature) for feature in description.features])
    columns = columns.widened(np.vstack([last * 0, last]))
    sentinels, trees = sentinels_of(source.model), trees_of(graph)

    floors = floors_of(source.model, width) if _has_steps(source.model) else unknown

    def scores(rows: datasets.Rows) -> Scores:
        rows = description.as_given(_levelled(description, np.fmax(rows, floors)))
        return framework_scores(source.model, description, rows.astype(description.given))

    is_wide = _compares_wide(source.model, description)
    drawn = probing_rows(columns, trees, scores if is_wide else None, sentinels, RANDOM_ROWS, RANDOM_SEED)
    drawn[:, booleans] = np.clip(drawn[:, booleans], 0, 1)
    if trees is None and is_wide:
        drawn = np.vstack([drawn, rows_at_changes(drawn, scores, CHANGES, RANDOM_SEED)])
    if _has_steps(source.model):
        drawn = np.vstack([drawn, rows_at(drawn, edges_of(source.model, width), RANDOM_SEED)])
    if len(learned := learned_rows(source.model)):
        drawn = np.vstack([drawn, rows_like(learned, RANDOM_ROWS, RANDOM_SEED)])
    groups = [np.vstack([known, drawn])]
    if len(known) == 1:
        groups.append(rows_near(columns, known[0], NEAR_ROWS, RANDOM_SEED))
    groups = [_typed(description, np.where(np.isnan(rows), rows, np.fmax(rows, floors))) for rows in groups]
    for rows in groups:
        narrow = np.array(description.narrow or [False] * width)
        rows[:, narrow] = rows[:, narrow].astype(np.float32)
    return tuple(description.as_given(rows).astype(description.given) for rows in groups if len(rows))


def _check_example(source: LoadedModel, description: ModelDescription) -> None:
    """Raise `VerificationFailed` where rows of the example score otherwise as a server would read them than as logged.

    What a server does not take is left out.
    """
    names, example = list(description.row_format.feature_names), source.example
    if not isinstance(example, pd.DataFrame) or not set(names) <= set(example.columns):
        return
    rows = np.asarray(_numbered(description, example), dtype=np.float64)
    taken = description.row_format.fitting(as_served(description, rows))
    if not taken.any():
        return
    model, logged_rows = source.model, example[names][taken]
    # JSON, as which examples are kept, does not tell None from NaN.
    texts_of = {feature.name for feature in description.features if feature.levels}
    for name, gap in gaps_of(model, names).items():
        if name not in texts_of:
            continue
        texts = logged_rows[name].astype(object)
        logged_rows = logged_rows.assign(**{name: texts.where(texts.notna(), gap)})
    logged = to_columns(description.task, np.asarray(_scored(model, description, logged_rows), dtype=np.float64))
    read = framework_scores(model, description, rows[taken])
    if not np.allclose(logged, read, rtol=1e-6, atol=1e-6):
        row = int(np.flatnonzero(taken)[np.abs(logged - read).max(axis=1).argmax()])
        raise VerificationFailed(
            f"Row {row} of the input example scores otherwise where its texts are read as the levels of the model's "
            "encoders: something before them makes others of the texts. Nothing was stored."
        )


def _typed(description: ModelDescription, rows: datasets.Rows) -> datasets.Rows:
    """The rows with a level in each category, and gaps where values may be missing."""
    random = np.random.default_rng(RANDOM_SEED)
    rows = _levelled(description, rows)
    for at, feature in enumerate(description.features):
        if feature.nullable:
            rows[1:, at][random.random(len(rows) - 1) < MISSING_SHARE] = np.nan
    return rows


def _levelled(description: ModelDescription, rows: datasets.Rows) -> datasets.Rows:
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


def _has_steps(model: Any) -> bool:
    """Whether it is of scikit-learn, and may have transformers."""
    return not is_xgboost(model) and hasattr(model, "n_features_in_")


def _has_histogram(model: Any) -> bool:
    """Whether a part is histogram gradient boosting, which compares in float64, and with values of its data."""
    return any(hasattr(part, "_predictors") for part in parts_of(model))


def _compares_doubles(model: Any) -> bool:
    """Whether a part is made of trees that compare in float64: histogram gradient boosting, or LightGBM."""
    own = [own_model(part) for part in parts_of(model)]
    return _has_histogram(model) or any(part is not None and part.compares_doubles for part in own)


def _compares_wide(model: Any, description: ModelDescription) -> bool:
    """Whether the framework may have thresholds between two float32."""
    is_moved = is_composed(model, description) and compares_digits(model, description.features)
    return is_moved or _compares_doubles(model)


def _whole(description: ModelDescription) -> NDArray[np.bool_]:
    return np.array([feature.type != "float" for feature in description.features])


def _example_rows(description: ModelDescription, example: Any) -> datasets.Rows:
    """The input example, float64 [N, features]; of no rows where it does not fit."""
    names = [feature.name for feature in description.features]
    columns = getattr(example, "columns", None)
    if columns is not None and set(names) <= set(columns):
        example = example[names]
    try:
        rows = np.atleast_2d(np.asarray(_numbered(description, example), dtype=np.float64))
    except (TypeError, ValueError):
        return np.empty((0, len(names)))
    fits = rows.ndim == 2 and rows.shape[1] == len(names)
    return rows[description.row_format.fitting(rows)] if fits else np.empty((0, len(names)))


def _numbered(description: ModelDescription, example: Any) -> Any:
    """An example frame with the numbers of its levels."""
    if not isinstance(example, pd.DataFrame) or not any(feature.levels for feature in description.features):
        return example
    numbers = {}
    for feature in description.features:
        column = example[feature.name]
        if feature.levels:
            known = {level: position for position, level in enumerate(feature.levels)}
            other = len(known) if feature.other else np.nan
            column = column.map(lambda value, known=known, other=other: known.get(value, other), na_action="ignore")
        numbers[feature.name] = column
    return pd.DataFrame(numbers)


def framework_scores(model: Any, description: ModelDescription, rows: datasets.Rows) -> Scores:
    """The framework's own answer: float64 [N, classes], or [N, 1] where one score tells classes apart that has no
    counterpart; [N, 1] or [N, outputs] for values.
    """
    given = as_trained(model, description, rows)
    if is_xgboost(model):
        scores = scores_of(model, given)
    elif (own := own_model(model)) is not None:
        scores = own.scores(given)
    else:
        scores = _scored(model, description, given)
    return to_columns(description.task, np.asarray(scores, dtype=np.float64))


def _scored(model: Any, description: ModelDescription, given: Any) -> Any:
    """What a model, but for XGBoost's, says of rows in the form that it takes."""
    if description.task.is_of_values:
        return model.predict(given)
    return model.predict_proba(given) if description.task.has_probabilities else decisions.scores_of(model, given)


def as_trained(model: Any, description: ModelDescription, rows: datasets.Rows) -> Any:
    """The rows in the form in which the model was given its training data."""
    if is_xgboost(model) and not hasattr(model, "get_booster"):
        return xgboost.DMatrix(rows, feature_names=model.feature_names)
    if (own := own_model(model)) is not None:
        return own.given(rows, description.features)
    names = trained_names(model)
    if not names:
        return rows if description.row_format.text_field is None else rows[:, 0]
    frame = pd.DataFrame(rows, columns=list(names))
    gaps = gaps_of(model, names) if _has_steps(model) else {}
    for column in description.row_format.schema.columns:
        if isinstance(column, Category):
            gap = gaps.get(column.name, np.nan)
            frame[column.name] = pd.Series(_spelt(column, frame[column.name].to_numpy(), gap), dtype=object)
        elif isinstance(column, Boolean) and gaps and frame[column.name].isin((0, 1)).all():
            frame[column.name] = frame[column.name].astype(bool)
    return frame


def _spelt(column: Category, numbers: NDArray[Any], gap: Any) -> NDArray[Any]:
    """The levels that some numbers stand for, and `gap` where they are missing: dtype object."""
    levels = np.array([*column.levels, column.spell(len(column.levels)), gap], dtype=object)
    return np.asarray(levels[np.where(np.isnan(numbers), len(levels) - 1, np.nan_to_num(numbers)).astype(np.int64)])


def file_scores(kind: FileKind, path: Path, description: ModelDescription, rows: datasets.Rows) -> Scores:
    """What the file answers in the engine that serves it, shaped like `framework_scores`."""
    if kind is FileKind.UBJ:
        booster = xgboost.Booster(model_file=path)
        return to_columns(description.task, np.asarray(booster.inplace_predict(rows), dtype=np.float64))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, FATAL
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        (scores,) = session.run(None, {INPUT: rows})
    except Exception as error:  # ONNX Runtime has some of its own, without a common base
        reason = str(error).strip().splitlines()[0]
        raise UnsupportedModel(f"{path.name} does not work in ONNX Runtime: {reason}") from error
    return np.asarray(scores, dtype=np.float64)


@dataclass(frozen=True)
class _Compared:
    receipt: Verification
    close_calls: int


def _compare(
    kind: FileKind, folder: Path, model: Any, description: ModelDescription, reference: Reference
) -> _Compared:
    path, rows, expected = folder / kind.file_name, as_served(description, reference.rows), reference.scores
    together, alone = file_scores(kind, path, description, rows), file_scores(kind, path, description, rows[:1])
    if together.shape != expected.shape or alone.shape != expected[:1].shape:
        raise VerificationFailed(
            f"{path.name} answers {list(together.shape)} for {len(rows)} rows and {list(alone.shape)} for one, "
            f"where the framework answers {list(expected.shape)}. Nothing was stored."
        )
    distances = np.abs(together - expected) / reference.allowed
    distances[0] = np.maximum(distances[0], np.abs(alone[0] - expected[0]) / reference.allowed[0])
    # Asked this way round because a score that is not a number is never within any bound.
    if not distances.max() <= 1:
        row = int(distances.max(axis=1).argmax())
        wrong = np.asarray(~(distances <= 1).all(axis=1))
        column = int(distances[row].argmax())
        difference = np.abs(together[row, column] - expected[row, column])
        allowed = np.broadcast_to(reference.allowed, expected.shape)[row, column]
        raise VerificationFailed(
            f"{path.name} differs from the framework's own scores by {difference:.3g} (row {row} of {len(rows)}), "
            f"{allowed:.3g} is allowed. {_reason(model, description, reference, wrong)}"
            "Nothing was stored."
        )
    least = float(reference.allowed.min())
    difference = float(distances.max()) * least
    close_calls = _check_labels(path, description, reference, together, difference)
    tolerances = tuple(reference.allowed.min(axis=0).tolist()) if description.outputs else ()
    receipt = Verification(rows=len(rows), max_abs_difference=difference, tolerance=least, tolerances=tolerances)
    return _Compared(receipt, close_calls)


def _check_labels(
    path: Path, description: ModelDescription, reference: Reference, scores: Scores, difference: float
) -> int:
    """How many rows have another label because rounding decides. Raises `VerificationFailed` for any further one."""
    if reference.labels is None:
        return 0
    labels = chosen(scores, description.positive_from)
    wrong = labels != reference.labels
    margin = _margin(reference.scores, description)
    # A tie that the file keeps to the last bit must be broken as the framework breaks it, if by these scores it does.
    tie = (margin == 0) & (_margin(scores, description) == 0)
    tie &= len(np.unique(reference.labels[tie])) == 1 or scores.shape[1] > 2
    certain = wrong & (tie | (margin > max(difference, FLOAT32_STEP)))
    if not description.task.has_probabilities:
        own = chosen(reference.scores, description.positive_from) != reference.labels
        certain = wrong & (margin > reference.close)  # a framework of float32 rounds as well
    if certain.any():
        row = int(np.flatnonzero(certain)[0])
        names = description.classes
        reason = "its labels do not follow from its scores"
        if not description.task.has_probabilities and not own[row]:
            reason = "float32 does not tell its scores apart; a StandardScaler before it helps"
        raise VerificationFailed(
            f"{path.name} gives {int(certain.sum())} of {len(wrong)} rows another label than the framework's predict, "
            f"such as {names[labels[row]]!r} for {names[reference.labels[row]]!r} with the scores "
            f"{reference.scores[row].tolist()}: {reason}. Nothing was stored."
        )
    return int(wrong.sum())


def _margin(scores: Scores, description: ModelDescription) -> NDArray[np.float64]:
    """How far each row's scores are from another label; 0: a tie."""
    if scores.shape[1] == 1:
        return np.asarray(np.abs(scores[:, 0]))
    if scores.shape[1] == 2:
        threshold = 0.5 if description.positive_from == ABOVE_HALF else description.positive_from
        return np.asarray(np.abs(scores[:, 1] - threshold))
    ordered = np.sort(scores, axis=1)
    return np.asarray(ordered[:, -1] - ordered[:, -2])


def _reason(model: Any, description: ModelDescription, reference: Reference, wrong: NDArray[np.bool_]) -> str:
    """A sentence that says why those rows are wrong, where that is known."""
    if description.row_format.text_field is not None:
        return ""
    if _has_histogram(model) and mixes_columns(model, len(description.features)):
        return (
            "Its histogram gradient boosting has thresholds at values of its data, and stands behind steps that ONNX "
            "computes in float32. Train it on the columns themselves: trees need no scaling. "
        )
    if any(hasattr(part, "support_vectors_") for part in _estimators_of(model)):
        return "ONNX adds up its kernel in float32: put a StandardScaler before it. "
    if len(learned_rows(model)):
        return (
            "Of neighbours that are equally far, as whole numbers often are, ONNX takes others than scikit-learn does, "
            "and it measures in float32. "
        )
    if getattr(model, "answers", None) is not None:
        return (
            "Of large numbers PyTorch and ONNX Runtime round sums otherwise: begin the network with BatchNorm1d, log "
            "it with an input example of several rows, or allow the difference with --tolerance. "
        )
    return _lost_digits(model, description, reference, wrong)


def _estimators_of(model: Any) -> list[Any]:
    """The parts of a model, and those that decide between one class and the rest."""
    parts = parts_of(model)
    return [*parts, *(one for part in parts if isinstance(part, OneVsRestClassifier) for one in part.estimators_)]


def _lost_digits(model: Any, description: ModelDescription, reference: Reference, wrong: NDArray[np.bool_]) -> str:
    """Name the feature whose float32 moves the framework's own score of a wrong row furthest, if too far.

    A number that is not float32 stands for all that become the same.
    """
    rows, scores, allowed = reference.rows[wrong], reference.scores[wrong], reference.allowed[wrong].min(axis=1)
    if rows.dtype != np.float64 or description.is_wide:
        return ""
    rounded = description.as_given(rows.astype(np.float32).astype(rows.dtype))
    told_apart = description.digits.exact | description.digits.decimal
    low, high = (np.where(told_apart, rounded, end) for end in cell_of(rounded))

    def moved(others: datasets.Rows, scores: Scores) -> NDArray[np.float64]:
        return np.asarray(np.abs(framework_scores(model, description, others) - scores).max(axis=1))

    moves = np.array([moved(others, scores) for others in (rounded, low, high)])
    kind, at = np.unravel_index((moves / allowed).argmax(), moves.shape)
    if not moves[kind, at] > allowed[at]:
        return ""
    given, other = rows[at], (rounded, low, high)[kind][at]
    changed = np.flatnonzero(other != given)
    if not len(changed):
        return ""
    alone = np.tile(given, (len(changed), 1))
    alone[np.arange(len(changed)), changed] = other[changed]
    by_column = moved(alone, scores[at])
    column = int(changed[by_column.argmax()])
    name, value = description.features[column].name, given[column].item()
    is_same = "becomes" if kind == 0 else f"and {other[column].item()!r} become"
    return (
        f"The feature {name!r} needs more digits than rows have here: they carry float32, in which {value!r} {is_same} "
        f"{rounded[at, column].item()!r}, and the framework's own score moves by {by_column.max():.3g}. Train the "
        "model on columns of float32, and log it with them, or on smaller numbers, such as days since a recent date. "
        f"{reference.advice}"
    )
