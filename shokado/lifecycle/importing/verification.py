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
import xgboost
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from runners.artefacts.card import ABOVE_HALF, ABOVE_ZERO, Card, Examples, FileKind, Task, Verification
from runners.artefacts.scores import from_columns, to_columns, tolerance_of
from runners.engines.prepared_texts import GraphInputs
from runners.inputs.rows import Rows
from shokado.lifecycle.errors import UnsupportedModel, VerificationFailed
from shokado.lifecycle.importing.conversion import ModelDescription
from shokado.lifecycle.importing.deviations import reason_of
from shokado.lifecycle.importing.expected import Expected, expected_of, expected_of_rows
from shokado.lifecycle.importing.framework import Framework, Scores
from shokado.lifecycle.importing.graphs import INPUT
from shokado.lifecycle.importing.input_example import InputExample
from shokado.lifecycle.importing.label_rules import chosen, instead_of
from shokado.lifecycle.importing.probing_rows import Trees, parts_of, trees_of
from shokado.lifecycle.importing.registry import LoadedModel
from shokado.lifecycle.importing.scaled_trees import SCALERS

EXAMPLE_ROWS = 32
"""Rows that go into the card: enough to take most paths through a tree, and a few KiB."""
FATAL = 4
"""ONNX Runtime's level of what it logs."""
FLOAT32_STEP = 2.0**-24
"""Distance between float32 numbers just below 1."""


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
    framework, example = Framework(source.model, description), InputExample(source.example, description)
    trees = trees_of(onnx.load(folder / FileKind.ONNX.file_name))
    # Small batches, many times: threads that wait for each other take longer than one.
    with threadpool_limits(1):
        expected = expected_of(framework, example, trees, tolerance)
        compared = {kind: _compare(kind, folder, framework, expected) for kind in kinds}
    close_calls = max(found.close_calls for found in compared.values())
    receipts = {kind: found.receipt for kind, found in compared.items()}
    near = np.logical_and.reduce([found.near for found in compared.values()])
    return Verified(receipts, _examples(expected, description, near), close_calls, _is_rounded(framework, trees))


def verify_rows(framework: Framework, card: Card, folder: Path, rows: Rows) -> dict[FileKind, Verification]:
    """Compare an artefact's files with the model's own scores and labels again, over rows as clients have them.

    Args:
        card: what it was imported with, which says what differences are allowed.
        folder: where its files are.
        rows: float64, or texts, [N, features], that the model takes.

    Raises `VerificationFailed` as `verify` does.
    """
    with threadpool_limits(1):
        expected = expected_of_rows(framework, rows, tolerance_of(card, 0.0))
        return {kind: _compare(kind, folder, framework, expected).receipt for kind in card.files}


def _is_rounded(framework: Framework, trees: Trees | None) -> bool:
    if all(framework.description.exact):
        return False
    is_scaled = any(isinstance(part, SCALERS) for part in parts_of(framework.model))
    return framework.compares_doubles or (is_scaled and trees is not None)


def _examples(expected: Expected, description: ModelDescription, near: NDArray[np.bool_]) -> Examples:
    """The first rows and their scores as a server gives them: one number each, or one per class or value.

    `near` are rows that a server's check can take, which knows the receipt's tolerance and none for values far out.
    """
    at = np.flatnonzero(near if near.any() else np.ones_like(near))[:EXAMPLE_ROWS]
    rows, scores = description.as_served(expected.rows[at]), expected.scores[at]
    plain: Any = description.row_format.unbatched(rows)
    return Examples(rows=plain, scores=from_columns(description.task, scores).tolist())


def file_scores(kind: FileKind, path: Path, description: ModelDescription, rows: Rows) -> Scores:
    """What the file answers in the engine that serves it, shaped like `Framework.scores`."""
    if kind is FileKind.UBJ:
        booster = xgboost.Booster(model_file=path)
        return to_columns(description.task, np.asarray(booster.inplace_predict(rows), dtype=np.float64))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, FATAL
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        (scores,) = session.run(None, _inputs(session, description, rows))
    except Exception as error:  # ONNX Runtime has some of its own, without a common base
        reason = str(error).strip().splitlines()[0]
        raise UnsupportedModel(f"{path.name} does not work in ONNX Runtime: {reason}") from error
    return np.asarray(scores, dtype=np.float64)


def _inputs(session: Any, description: ModelDescription, rows: Rows) -> dict[str, Any]:
    if not description.has_texts:
        return {INPUT: rows}
    metadata = session.get_modelmeta().custom_metadata_map
    return GraphInputs.of(metadata, description.row_format.schema).of_rows(rows)[0]


@dataclass(frozen=True)
class _Compared:
    receipt: Verification
    close_calls: int
    near: NDArray[np.bool_]
    """The rows that differ by no more than half of what the receipt allows any row: [N]."""


def _compare(kind: FileKind, folder: Path, framework: Framework, expected: Expected) -> _Compared:
    description, scores = framework.description, expected.scores
    path, rows = folder / kind.file_name, description.as_served(expected.rows)
    together, alone = file_scores(kind, path, description, rows), file_scores(kind, path, description, rows[:1])
    if together.shape != scores.shape or alone.shape != scores[:1].shape:
        raise VerificationFailed(
            f"{path.name} answers {list(together.shape)} for {len(rows)} rows and {list(alone.shape)} for one, "
            f"where the framework answers {list(scores.shape)}. Nothing was stored."
        )
    distances = np.abs(together - scores) / expected.allowed
    _check_row_alone(path, together, alone, distances, expected)
    distances[0] = np.maximum(distances[0], np.abs(alone[0] - scores[0]) / expected.allowed[0])
    # Asked this way round because a score that is not a number is never within any bound.
    if not distances.max() <= 1:
        row = int(distances.max(axis=1).argmax())
        wrong = np.asarray(~(distances <= 1).all(axis=1))
        column = int(distances[row].argmax())
        difference = np.abs(together[row, column] - scores[row, column])
        allowed = np.broadcast_to(expected.allowed, scores.shape)[row, column]
        again = file_scores(kind, path, description, rows)
        raise VerificationFailed(
            f"{path.name} differs from the framework's own scores by {difference:.3g} (row {row} of {len(rows)}), "
            f"{allowed:.3g} is allowed. {_changing(together, again) or reason_of(framework, expected, wrong)}"
            "Nothing was stored."
        )
    least = float(expected.allowed.min())
    difference = float(distances.max()) * least
    close_calls = _check_labels(path, framework, expected, together, difference)
    tolerances = tuple(expected.allowed.min(axis=0).tolist()) if description.task is Task.MULTIOUTPUT else ()
    receipt = Verification(rows=len(rows), max_abs_difference=difference, tolerance=least, tolerances=tolerances)
    near = (np.abs(together - scores) <= expected.allowed.min(axis=0) / 2).all(axis=1)
    return _Compared(receipt, close_calls, near)


def _check_row_alone(
    path: Path, together: Scores, alone: Scores, distances: NDArray[np.float64], expected: Expected
) -> None:
    """Raise `VerificationFailed` where a row that is right among others is another alone."""
    apart = np.abs(alone[0] - together[0])
    if (distances[0] <= 1).all() and not (apart <= 2 * expected.allowed[0]).all():
        raise VerificationFailed(
            f"{path.name} scores a row otherwise alone than among others, by {apart.max():.3g}: what it answers for a "
            "row must not depend on other rows, with which a server puts it together. Look for an operator over the "
            "first axis, such as a mean or a softmax of all rows. Nothing was stored."
        )


def _changing(once: Scores, again: Scores) -> str:
    """A sentence for a file that answers the same rows otherwise each time."""
    if np.array_equal(once, again, equal_nan=True):
        return ""
    return "It answers the same rows otherwise each time: a network is exported after model.eval(), without dropout. "


def _check_labels(path: Path, framework: Framework, expected: Expected, scores: Scores, difference: float) -> int:
    """How many rows have another label because rounding decides. Raises `VerificationFailed` for any further one."""
    if expected.labels is None:
        return 0
    description = framework.description
    labels = chosen(description.task, scores, description.positive_from)
    wrong = labels != expected.labels
    margin = _margin(expected.scores, description)
    # A tie that the file keeps to the last bit must be broken as the framework breaks it, if by these scores it does.
    tie = (margin == 0) & (_margin(scores, description) == 0)
    tie &= len(np.unique(expected.labels[tie])) == 1 or not description.task.has_threshold
    certain = wrong & (tie | (margin > max(difference, FLOAT32_STEP)))
    if not description.task.has_probabilities:
        own = chosen(description.task, expected.scores, description.positive_from) != expected.labels
        certain = wrong & (margin > expected.close)  # a framework of float32 rounds as well
    if certain.any():
        at = tuple(np.argwhere(certain)[0])
        names, rows = description.classes, certain.reshape(len(certain), -1).any(axis=1)
        reason = f"its labels do not follow from its scores{instead_of(framework.model)}"
        if not description.task.has_probabilities and not own[at]:
            reason = "float32 does not tell its scores apart; a StandardScaler before it helps"
        raise VerificationFailed(
            f"{path.name} gives {int(rows.sum())} of {len(rows)} rows another label than the framework's predict, "
            f"such as {names[labels[at]]!r} for {names[expected.labels[at]]!r} with the scores "
            f"{expected.scores[at[0]].tolist()}: {reason}. Nothing was stored."
        )
    return int(wrong.reshape(len(wrong), -1).any(axis=1).sum())


def _margin(scores: Scores, description: ModelDescription) -> NDArray[np.float64]:
    """How far each row's scores are from another label, [N], or each of its labels' from the other, [N, labels]; 0: a
    tie.
    """
    if description.task.has_labels:
        threshold = {ABOVE_HALF: 0.5, ABOVE_ZERO: 0.0}.get(description.positive_from, description.positive_from)
        return np.asarray(np.abs(scores - threshold))
    if scores.shape[1] == 1:
        return np.asarray(np.abs(scores[:, 0]))
    if scores.shape[1] == 2:
        threshold = 0.5 if description.positive_from == ABOVE_HALF else description.positive_from
        return np.asarray(np.abs(scores[:, 1] - threshold))
    ordered = np.sort(scores, axis=1)
    return np.asarray(ordered[:, -1] - ordered[:, -2])
