"""Verification: a converted file must score as the framework does, row by row, or the import is refused.

A loaded model, its description and the files' folder go in, a `Verification` per file comes out, and a few rows with
the framework's scores by which a server can check its engine again. The files are opened from disk with the engines
that serve them, and asked for the whole batch and for one row alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
import xgboost
from numpy.typing import NDArray

from lifecycle import datasets
from lifecycle.conversion import INPUT, Description, is_xgboost
from lifecycle.errors import VerificationFailed
from lifecycle.probing_texts import probing_texts
from lifecycle.registry import LoadedModel
from lifecycle.text_conversion import vectorizers_of
from runners.card import Examples, FileKind, Task, Verification

EXAMPLE_ROWS = 32
"""Rows that go into the card: enough to take most paths through a tree, and a few KiB."""
RANDOM_ROWS = 1000
RANDOM_SEED = 3

Scores = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Reference:
    """Rows, the framework's scores for them, and the largest difference that is allowed."""

    rows: datasets.Rows
    scores: Scores
    allowed: float


@dataclass(frozen=True)
class Verified:
    """What the card records of a verification."""

    files: dict[FileKind, Verification]
    examples: Examples


def verify(
    source: LoadedModel, description: Description, folder: Path, kinds: tuple[FileKind, ...], tolerance: float
) -> Verified:
    """Compare every file's scores with the model's own.

    Args:
        folder: where the files are.
        tolerance: largest difference of a probability; of a value, in units of the values' standard deviation.

    Raises:
        VerificationFailed: a file differs by more than the tolerance, is not a number, or has another shape.
    """
    rows = texts_for(source, description) if description.takes_text else rows_for(description, source.example)
    scores = framework_scores(source.model, description, rows)
    scale = float(scores.std()) if description.task is Task.REGRESSION else 1.0
    reference = Reference(rows, scores, tolerance * (scale if scale > 0 else 1.0))
    files = {kind: _compare(kind, folder, description, reference) for kind in kinds}
    return Verified(files, _examples(reference, description.task))


def _examples(reference: Reference, task: Task) -> Examples:
    """The first rows and their scores as a server gives them: one number each, or for multiclass one per class."""
    rows, scores = reference.rows[:EXAMPLE_ROWS], reference.scores[:EXAMPLE_ROWS]
    given = scores if task is Task.MULTICLASS else scores[:, -1]
    plain = rows[:, 0].tolist() if rows.dtype == object else rows.tolist()
    return Examples(rows=plain, scores=given.tolist())


def texts_for(source: LoadedModel, description: Description) -> datasets.Rows:
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


def rows_for(description: Description, example: Any) -> datasets.Rows:
    """The rows to compare over, float32 [N, features].

    The test part of the data set that the model was trained on; for a model of unknown origin its input example and
    seeded random rows within the example's range, widened by half; without an example, rows that fit the types.
    """
    if description.dataset in datasets.NAMES:
        return datasets.load(str(description.dataset)).test.rows
    random = np.random.default_rng(RANDOM_SEED)
    known = _example_rows(description, example)
    if known is None:
        columns = [_random_column(random, feature.type) for feature in description.features]
        return np.column_stack(columns).astype(np.float32)
    low, high = known.min(axis=0), known.max(axis=0)
    margin = np.maximum((high - low) / 2, 1e-3)
    drawn = random.uniform(low - margin, high + margin, (RANDOM_ROWS, known.shape[1]))
    whole = [feature.type != "float" for feature in description.features]
    drawn[:, whole] = np.rint(drawn[:, whole])
    return np.vstack([known, drawn]).astype(np.float32)


def _example_rows(description: Description, example: Any) -> datasets.Rows | None:
    names = [feature.name for feature in description.features]
    columns = getattr(example, "columns", None)
    if columns is not None and set(names) <= set(columns):
        example = example[names]
    try:
        rows = np.atleast_2d(np.asarray(example, dtype=np.float32))
    except (TypeError, ValueError):
        return None
    return rows if rows.ndim == 2 and rows.shape[1] == len(names) and np.isfinite(rows).all() else None


def _random_column(random: np.random.Generator, kind: str) -> NDArray[Any]:
    ceiling: Mapping[str, int] = {"boolean": 2, "category": 10, "integer": 1000}
    if kind in ceiling:
        return random.integers(0, ceiling[kind], RANDOM_ROWS)
    return random.normal(0, 1, RANDOM_ROWS) * 10 ** random.uniform(-1, 3, RANDOM_ROWS)


def framework_scores(model: Any, description: Description, rows: datasets.Rows) -> Scores:
    """The framework's own answer: float64 [N, classes] for classifiers, [N, 1] for regression."""
    if is_xgboost(model) and not hasattr(model, "get_booster"):
        scores = model.predict(xgboost.DMatrix(rows, feature_names=model.feature_names))
    else:
        named = _as_trained(model, rows)
        scores = model.predict(named) if description.task is Task.REGRESSION else model.predict_proba(named)
    return _by_column(np.asarray(scores, dtype=np.float64), description)


def _as_trained(model: Any, rows: datasets.Rows) -> Any:
    names = getattr(model, "feature_names_in_", None)
    if names is None:
        return rows[:, 0] if rows.dtype == object else rows
    return pd.DataFrame(rows, columns=list(names))


def _by_column(scores: Scores, description: Description) -> Scores:
    """Give a Booster's [N] its columns: both classes of a binary model, or the one value."""
    if scores.ndim == 1 and description.task is Task.BINARY:
        return np.column_stack([1 - scores, scores])
    return scores.reshape(len(scores), -1)


def file_scores(kind: FileKind, path: Path, description: Description, rows: datasets.Rows) -> Scores:
    """What the file answers in the engine that serves it, shaped like `framework_scores`."""
    if kind is FileKind.UBJ:
        booster = xgboost.Booster(model_file=path)
        return _by_column(np.asarray(booster.inplace_predict(rows), dtype=np.float64), description)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (scores,) = session.run(None, {INPUT: rows})
    return np.asarray(scores, dtype=np.float64)


def _compare(kind: FileKind, folder: Path, description: Description, reference: Reference) -> Verification:
    path, rows, expected = folder / kind.file_name, reference.rows, reference.scores
    together, alone = file_scores(kind, path, description, rows), file_scores(kind, path, description, rows[:1])
    if together.shape != expected.shape or alone.shape != expected[:1].shape:
        raise VerificationFailed(
            f"{path.name} answers {list(together.shape)} for {len(rows)} rows and {list(alone.shape)} for one, "
            f"where the framework answers {list(expected.shape)}. Nothing was stored."
        )
    distances = np.abs(together - expected).max(axis=1)
    difference = float(max(distances.max(), np.abs(alone - expected[:1]).max()))
    # Asked this way round because a score that is not a number is never within any bound.
    if not difference <= reference.allowed:
        raise VerificationFailed(
            f"{path.name} differs from the framework's own scores by {difference:.3g} (row {int(distances.argmax())} "
            f"of {len(rows)}), {reference.allowed:.3g} is allowed. Nothing was stored."
        )
    return Verification(rows=len(rows), max_abs_difference=difference, tolerance=reference.allowed)
