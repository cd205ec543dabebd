"""What the columns of parts are: of rows with scores, and of those that have none."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from runners.artefacts.card import Card
from runners.artefacts.scores import Scores, positions_of, score_names
from shokado.lifecycle.batch.packing import is_text

FILE, ROW = "file", "row"
"""Which row of the input it is: the file's name below the input's address, and how many rows stand before it there."""
VERSION, REASON, PREDICTION = "version", "reason", "prediction"
SCORE = "score."
CODE, FEATURE, WHAT = "code", "feature", "what"
_TEXT, _WHOLE, _SCORE = "string", "int64", "float32"


def score_columns(card: Card) -> tuple[str, ...]:
    """What the columns of a row's scores are called: `score`, or `score.NAME` for each class or output."""
    return tuple(name if name == "score" else SCORE + name for name in score_names(card))


def prediction_columns(card: Card) -> tuple[str, ...]:
    """What the columns of labels are called: `prediction`, or one for each output; none for values."""
    if not card.classes:
        return ()
    return tuple(f"{PREDICTION}.{name}" for name in card.outputs) or (PREDICTION,)


def kept_type(kind: Any) -> Any:
    """Arrow's type of a column that is carried over: texts are texts, however a file has them."""
    import pyarrow

    return pyarrow.string() if is_text(kind) else kind


def scored_schema(card: Card, kept: Mapping[str, Any]) -> Any:
    """Arrow's schema of parts; `kept` are the types of columns that are carried over."""
    label = _WHOLE if all(isinstance(name, int) for name in card.classes) else _TEXT
    return _schema(
        {FILE: _TEXT, ROW: _WHOLE},
        kept,
        {VERSION: _TEXT, REASON: _TEXT},
        dict.fromkeys(score_columns(card), _SCORE),
        dict.fromkeys(prediction_columns(card), label),
    )


def rejected_schema(kept: Mapping[str, Any]) -> Any:
    """The same of rows without scores."""
    return _schema({FILE: _TEXT, ROW: _WHOLE}, kept, {VERSION: _TEXT, CODE: _TEXT, FEATURE: _TEXT, WHAT: _TEXT})


def score_arrays(card: Card, scores: Scores) -> dict[str, Any]:
    """The columns of scores and labels of some rows."""
    import pyarrow

    by_column = scores.reshape(len(scores), -1)
    found: dict[str, Any] = {
        name: pyarrow.array(np.ascontiguousarray(by_column[:, at])) for at, name in enumerate(score_columns(card))
    }
    if card.classes:
        positions = positions_of(card.task, scores, card.positive_from).reshape(len(scores), -1)
        labels = pyarrow.array(card.classes)
        found |= {name: labels.take(positions[:, at]) for at, name in enumerate(prediction_columns(card))}
    return found


def taken_names(card: Card) -> Sequence[str]:
    """Names that columns of parts have, which no column of the input may have that is carried over."""
    return (FILE, ROW, VERSION, REASON, CODE, FEATURE, WHAT, *score_columns(card), *prediction_columns(card))


def _schema(*groups: Mapping[str, Any]) -> Any:
    import pyarrow

    kinds = {_TEXT: pyarrow.string(), _WHOLE: pyarrow.int64(), _SCORE: pyarrow.float32()}
    return pyarrow.schema(
        [
            (name, kinds[kind] if isinstance(kind, str) else kept_type(kind))
            for group in groups
            for name, kind in group.items()
        ]
    )
