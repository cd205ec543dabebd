"""Asking: a running scoring server is asked for the rows of a table, and tells what its model takes and gives.

rows as they are -> predictions -> which gaps it takes, values or labels
the same rows as a server packs and sends them -> the same predictions? (VerificationFailed)
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runners.artefacts.card import Examples, Task, Verification
from runners.inputs.faults import InputFault
from runners.inputs.formats import row_format_of
from runners.inputs.precision import FLOAT32, FLOAT64
from runners.inputs.schema import Feature
from runners.placements.frames import UnfitValue, plain_rows
from runners.placements.inference import Mismatch
from runners.placements.predicted import Predicted, scores_of
from shokado.lifecycle.errors import LifecycleError, UnsupportedModel, VerificationFailed
from shokado.lifecycle.importing.outputs import first_names
from shokado.lifecycle.importing.scoring_client import ScoringClient, Unanswered
from shokado.lifecycle.importing.signature_rows import SignatureRows

DRAWN_ROWS = 100
EXAMPLE_ROWS = 32
ALONE_ROWS = 3
ROUNDING = 2e-6
"""Share of a value that two answers may differ by in any case: some roundings to float32."""
SEED = 5


class QuestionedServer:
    """What a scoring server says of the rows of a table.

    Attributes:
        features: those of the table, each with whether a value may be missing, and numbers of float64 where float32
            would change an answer.
        task: a value, several, or labels.
        outputs: what several values are called, in their order.
        labels: the model's labels, as it gives them, in the order of the classes; no labels of values.
    """

    def __init__(
        self, client: ScoringClient, uri: str, table: SignatureRows, classes: Sequence[str], with_classes: str
    ) -> None:
        """`classes` are the labels as they were typed, if they were; else `with_classes` is the command that has them.

        Raises `SourceNotFound`, `UnsupportedModel`, and `LifecycleError` for classes that are not the model's.
        """
        self._client, self._uri, self._classes, self._with_classes = client, uri, classes, with_classes
        self._names = [feature.name for feature in table.features]
        whole = next((row for row in table.rows if None not in row), table.rows[0])
        self._predicted([whole])
        self.features = self._features(table, whole)
        self.row_format = row_format_of(self.features)
        self._rows = self._taken(table.rows) or [whole]
        self._predictions = self._predicted(self._rows)
        self._add_drawn()
        self.outputs = self._outputs(table.outputs)
        self.labels = () if self.outputs else self._labels()
        of_labels = {0: Task.REGRESSION, 2: Task.BINARY}.get(len(self.labels), Task.MULTICLASS)
        self.task = Task.MULTIOUTPUT if self.outputs else of_labels
        if any(type(value) is int and abs(value) > FLOAT32.whole for row in self._rows for value in row):
            self._widen()
        self._batch = self._packed()
        self._scores = self._scores_of(self._predictions)

    @property
    def examples(self) -> Examples:
        """The first rows, as a server packs them, and their scores."""
        rows: Any = self.row_format.unbatched(self._batch[:EXAMPLE_ROWS])
        return Examples(rows=rows, scores=self._scores[:EXAMPLE_ROWS].tolist())

    def verified(self, tolerance: float) -> Verification:
        """The receipt of rows as a server sends them, beside the same rows as they are. Raises `VerificationFailed`."""
        allowed = _allowed(self._scores, tolerance) if self.task.is_of_values else np.full((1, 1), tolerance)
        self._compare(self._predicted(self._rows), np.zeros((1, 1)), "the second time that it is asked")
        alone = [self._predicted([row]) for row in self._rows[:ALONE_ROWS]]
        one_by_one = Predicted([each.rows[0] for each in alone], alone[0].names)
        self._compare(one_by_one, allowed[:ALONE_ROWS], "when there are no others beside it")
        try:
            difference = self._compare_sent(allowed)
        except VerificationFailed:
            if self.row_format.schema.datatype != FLOAT32.datatype:
                raise
            self._widen()
            self._batch = self._packed()
            difference = self._compare_sent(allowed)
        largest = allowed.max(axis=0)
        tolerances = np.where(largest > 0, largest, ROUNDING)
        least = float(tolerances.min())
        return Verification(
            rows=len(self._rows),
            max_abs_difference=float((difference.max(axis=0) / tolerances).max()) * least,
            tolerance=least,
            tolerances=tuple(tolerances.tolist()) if self.outputs else (),
        )

    def _compare_sent(self, allowed: NDArray[Any]) -> NDArray[Any]:
        """Compare what is given for rows as a server packs and sends them. Raises `VerificationFailed`."""
        kind = self.row_format.schema.precision.name
        try:
            packed = self._client.predictions(plain_rows(self.features, self.row_format, self._batch))
        except (UnfitValue, Unanswered) as error:
            raise VerificationFailed(f"Rows of {kind} are not taken: {error}. Nothing was stored.") from error
        return self._compare(packed, allowed, f"when its numbers are rounded to {kind}: a column needs more digits")

    def _widen(self) -> None:
        """Take numbers as float64 from now on."""
        changed = {"precision": FLOAT64.name}
        self.features = tuple(
            feature.model_copy(update=changed) if feature.type in ("float", "integer") else feature
            for feature in self.features
        )
        self.row_format = row_format_of(self.features)

    def _compare(self, predictions: Predicted, allowed: NDArray[Any], when: str) -> NDArray[Any]:
        """How far each score is from that of the first time, (rows, scores). Raises `VerificationFailed`.

        `allowed` is (rows, scores) as well, or has one row, or one score, for all.
        """
        scores = _in_columns(self._scores_of(predictions))
        difference = np.abs(scores - _in_columns(self._scores[: len(scores)]))
        if (difference > allowed).any():
            row = int((difference - allowed).max(axis=1).argmax())
            by = f"{difference[row].max():.2g}"
            raise VerificationFailed(
                f"{self._client.url} gives another answer for {self._shown(row)} {when}, by {by}. Nothing was stored."
            )
        return difference

    def _features(self, table: SignatureRows, whole: list[Any]) -> tuple[Feature, ...]:
        """Each may have gaps that had some, or is optional, and whose gap the model answers."""
        features = list(table.features)
        for position, feature in enumerate(features):
            lacking = [*whole[:position], None, *whole[position + 1 :]]
            # MLflow's server makes false of a truth value that is missing.
            asked = feature.name in table.optional and feature.type not in ("text", "boolean")
            if asked and self._answers(lacking):
                features[position] = feature.model_copy(update={"nullable": True})
        return tuple(features)

    def _taken(self, rows: list[list[Any]]) -> list[list[Any]]:
        """Rows whose gaps are where values may be missing."""
        nullable = [feature.nullable for feature in self.features]
        return [row for row in rows if all(value is not None or may for value, may in zip(row, nullable, strict=True))]

    def _add_drawn(self) -> None:
        """Compare drawn rows as well, if the model scores them: it may refuse what never comes together."""
        drawn = _drawn(self._rows, self.features)
        try:
            # In one batch, as all that is compared with it.
            self._predictions = self._client.predictions(self._rows + drawn)
        except Unanswered:
            return
        self._rows = self._rows + drawn

    def _packed(self) -> NDArray[Any]:
        """The rows as a server packs them. Raises `UnsupportedModel` for what it would refuse, or round."""
        rows: Any = self._rows if self.row_format.text_field is None else [row[0] for row in self._rows]
        try:
            return self.row_format.join([self.row_format.pack_values(rows)], len(rows))
        except InputFault as fault:
            raise UnsupportedModel(f"The rows of {self._uri} cannot be sent: {fault.message}.") from fault

    def _predicted(self, rows: list[list[Any]]) -> Predicted:
        """Predictions for rows that the model must score."""
        try:
            return self._client.predictions(rows)
        except Unanswered as error:
            raise UnsupportedModel(f"{self._client.url} does not score the rows of {self._uri}: {error}") from error

    def _outputs(self, signed: Sequence[str]) -> tuple[str, ...]:
        """What the model's values are called, if they are several a row; `signed` are the names of the signature."""
        try:
            width = self._predictions.width
        except Mismatch as error:
            raise UnsupportedModel(f"{self._uri} cannot be connected: {error}.") from error
        if width == 1:
            return ()
        if self._classes:
            raise LifecycleError(f"--classes: {self._uri} gives {self._predictions.in_words}, which are no labels.")
        return first_names(width, self._predictions.names, signed)

    def _labels(self) -> tuple[Any, ...]:
        """The model's labels, as it gives them; empty where it gives numbers and nobody calls them labels."""
        predicted = [prediction for (prediction,) in self._predictions.rows]
        kinds, given = set(map(type, predicted)), self._classes
        if kinds <= {int, float} and not given:
            return ()
        if len(kinds) != 1 or float in kinds or type(None) in kinds:
            names = ", ".join(sorted(kind.__name__ for kind in kinds))
            raise UnsupportedModel(f"{self._uri} gives {names}, which are neither numbers nor labels of one kind.")
        (kind,) = kinds
        labels = tuple(_label(text, kind) for text in given) or tuple(sorted(set(predicted)))
        if unknown := set(predicted) - set(labels):
            raise UnsupportedModel(f"{self._uri} gives the label {unknown.pop()!r}, which is none of --classes.")
        if len(set(labels)) != len(labels):
            raise LifecycleError(f"--classes names a label twice: {', '.join(map(str, labels))}.")
        if len(labels) < 2:
            raise LifecycleError(
                f"{self._uri} gives the label {labels[0]!r} for all rows there are: name its labels, in their order.",
                self._with_classes,
            )
        return labels

    def _scores_of(self, predictions: Predicted) -> NDArray[np.float32]:
        try:
            found = scores_of(self.task, self.labels, self.outputs, predictions)
        except Mismatch as error:
            raise UnsupportedModel(f"{self._uri} cannot be connected: {error}.") from error
        if found.failures:
            row, reason = next(iter(found.failures.items()))
            raise UnsupportedModel(f"{self._uri} cannot be connected: {reason}, for {self._shown(row)}.")
        return found.scores

    def _shown(self, row: int) -> str:
        return str(dict(zip(self._names, self._rows[row], strict=True)))[:300]

    def _answers(self, row: list[Any]) -> bool:
        try:
            (predicted,) = self._client.predictions([row]).rows
        except Unanswered:
            return False
        return all(isinstance(value, str | int) or (value is not None and math.isfinite(value)) for value in predicted)


def _label(text: str, kind: type) -> Any:
    try:
        return {"true": True, "false": False}[text.lower()] if kind is bool else kind(text)
    except (ValueError, KeyError):
        raise LifecycleError(f"--classes: {text!r} is no label of this model, which gives {kind.__name__}.") from None


def _drawn(rows: list[list[Any]], features: Sequence[Feature]) -> list[list[Any]]:
    """Rows whose values are each drawn from the column; numbers with a point lie between its lowest and highest."""
    random, columns = np.random.default_rng(SEED), list(zip(*rows, strict=True))
    drawn: list[list[Any]] = []
    for values, feature in zip(columns, features, strict=True):
        known = [value for value in values if value is not None]
        if feature.type == "float" and known:
            drawn.append(random.uniform(min(known), max(known), DRAWN_ROWS).tolist())
        else:
            drawn.append([values[position] for position in random.integers(0, len(values), DRAWN_ROWS)])
    return [list(row) for row in zip(*drawn, strict=True)]


def _allowed(scores: NDArray[Any], tolerance: float) -> NDArray[Any]:
    """What each value may differ by, (rows, outputs): by the spread of the middle two thirds of its column, and never
    less than rounding.
    """
    values = _in_columns(scores)
    low, high = np.quantile(values, (1 / 6, 5 / 6), axis=0)
    return np.asarray(np.maximum(tolerance * (high - low) / 2, ROUNDING * np.abs(values)))


def _in_columns(scores: NDArray[Any]) -> NDArray[np.float64]:
    """Scores as (rows, scores of a row)."""
    return scores.astype(np.float64).reshape(len(scores), -1)
