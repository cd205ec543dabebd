"""Deviations: why a converted file scores some rows otherwise than its framework, where that can be told."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.multiclass import OneVsRestClassifier

from runners.inputs.rows import Rows
from shokado.lifecycle.importing.expected import Expected
from shokado.lifecycle.importing.framework import Framework, Scores
from shokado.lifecycle.importing.probing_rows import cell_of, learned_rows, parts_of
from shokado.lifecycle.importing.recoding import mixes_columns
from shokado.lifecycle.importing.term_graphs import pattern_of
from shokado.lifecycle.importing.text_conversion import vectorizers_of


def reason_of(framework: Framework, expected: Expected, wrong: NDArray[np.bool_]) -> str:
    """A sentence that says why those rows are wrong, and what would help; empty where that is not known."""
    model, description = framework.model, framework.description
    if description.has_texts:
        return _read_otherwise(model)
    if framework.has_histogram and mixes_columns(model, len(description.features)):
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
    if getattr(model, "evaluator", None) is not None:
        return (
            "Of this file the evaluator of the onnx package answers otherwise than ONNX Runtime: where the latter is "
            "right, log the file with mlflow.onnx.log_model, or allow the difference with --tolerance. "
        )
    if getattr(model, "answers", None) is not None:
        return (
            "Of large numbers PyTorch and ONNX Runtime round sums otherwise: begin the network with BatchNorm1d, log "
            "it with an input example of several rows, or allow the difference with --tolerance. "
        )
    return _lost_digits(framework, expected, wrong)


def _read_otherwise(model: Any) -> str:
    """Name a token pattern that has no sure translation."""
    for vectorizer in vectorizers_of(model):
        if vectorizer.analyzer == "word" and pattern_of(vectorizer) is None:
            return (
                f"Its {type(vectorizer).__name__} has token_pattern={vectorizer.token_pattern!r}, which ONNX Runtime "
                "reads by rules of its own, by which letters are those of ASCII: leave it out, or take r'\\w+' or "
                "r'\\S+'. "
            )
    return ""


def _estimators_of(model: Any) -> list[Any]:
    """The parts of a model, and those that decide between one class and the rest."""
    parts = parts_of(model)
    return [*parts, *(one for part in parts if isinstance(part, OneVsRestClassifier) for one in part.estimators_)]


def _lost_digits(framework: Framework, expected: Expected, wrong: NDArray[np.bool_]) -> str:
    """Name the feature whose float32 moves the framework's own score of a wrong row furthest, if too far.

    A number that is not float32 stands for all that become the same.
    """
    description = framework.description
    rows, scores, allowed = expected.rows[wrong], expected.scores[wrong], expected.allowed[wrong].min(axis=1)
    if rows.dtype != np.float64 or description.is_wide:
        return ""
    rounded = description.as_given(rows.astype(np.float32).astype(rows.dtype))
    low, high = (np.where(description.digits.told_apart, rounded, end) for end in cell_of(rounded))

    def moved(others: Rows, scores: Scores) -> NDArray[np.float64]:
        return np.asarray(np.abs(framework.scores(others) - scores).max(axis=1))

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
        f"{expected.advice}"
    )
