"""Outputs: how many numbers, or labels, a model gives a row, what each is called, and of what type labels are.

A model out of the registry goes in, and is asked for some rows that it may take.
"""

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from shokado.lifecycle.importing import boosters, multilabel
from shokado.lifecycle.importing.own_models import own_model
from shokado.lifecycle.importing.recoding import levels_of
from shokado.lifecycle.importing.registry import LoadedModel
from shokado.lifecycle.importing.text_conversion import vectorizers_of

if TYPE_CHECKING:
    from mlflow.models import ModelSignature


def outputs_of(source: LoadedModel, width: int) -> int:
    """How many numbers, or labels, the model gives a row; 1 where it takes none of the rows that are tried."""
    if boosters.is_xgboost(source.model):
        return boosters.targets_of(source.model)
    if (own := own_model(source.model)) is not None:
        return len(own.outputs) or 1
    if multilabel.has_labels(source.model):
        return multilabel.count_of(source.model)
    answer = _answer(source, width)
    return int(answer.shape[1]) if answer is not None and answer.ndim > 1 else 1


def own_labels_of(source: LoadedModel, width: int, classes: Sequence[Any]) -> tuple[Any, ...]:
    """The classes of several labels a row as `predict` has them: whole numbers, others, truth values or texts."""
    answer = _answer(source, width)
    given = np.asarray(classes) if answer is None else np.asarray(classes).astype(answer.dtype)
    return tuple(given.tolist())


def _answer(source: LoadedModel, width: int) -> NDArray[Any] | None:
    """What it predicts for the first rows that it takes; None where it takes none."""
    answers = (_predicted(source.model, rows) for rows in _rows(source, width))
    return next((answer for answer in answers if answer is not None), None)


def _predicted(model: Any, rows: Any) -> NDArray[Any] | None:
    try:
        answer = model.predict(rows)
    except Exception:  # what it does not take is said where its columns are read
        return None
    return np.asarray(answer.toarray() if hasattr(answer, "toarray") else answer)


def _rows(source: LoadedModel, width: int) -> Iterator[Any]:
    """Rows that a model may take: zeros or empty texts, the levels that it knows, the input example."""
    model = source.model
    names = [str(name) for name in getattr(model, "feature_names_in_", ())]
    if any(vectorizers_of(model)):
        yield pd.DataFrame({name: ["", ""] for name in names}) if names else ["", ""]
    else:
        zeros = np.zeros((2, width))
        yield pd.DataFrame(zeros, columns=names) if names else zeros
        if names and (levels := levels_of(model, names)):
            yield pd.DataFrame({name: [levels[name][0]] * 2 if name in levels else [0.0, 0.0] for name in names})
    if source.example is not None:
        yield source.example


def output_names(source: LoadedModel, count: int) -> tuple[str, ...]:
    """What each of several values is called: by the signature, by its quantile, else by its position."""
    own = own_model(source.model)
    of_its_own = _quantiles(source.model) if own is None else own.outputs
    return first_names(count, names_in_signature(source.signature), of_its_own)


def first_names(count: int, *candidates: Sequence[str]) -> tuple[str, ...]:
    """The first of these lists that names so many outputs, else their positions."""
    positions = [str(index) for index in range(count)]
    for names in candidates:
        if len(names) == len(set(names)) == count and names != positions:
            return tuple(names)
    return tuple(f"output_{position}" for position in positions)


def names_in_signature(signature: "ModelSignature | None") -> list[str]:
    """What a signature calls the outputs that it has as columns."""
    outputs = signature.outputs if signature is not None else None
    if outputs is None or outputs.is_tensor_spec():
        return []
    return [str(column.name) for column in outputs.inputs if column.name is not None]


def _quantiles(model: Any) -> list[str]:
    if not boosters.is_xgboost(model) or boosters.objective_of(model) != "reg:quantileerror":
        return []
    alphas = json.loads(boosters.learner_of(model)["objective"]["quantile_loss_param"]["quantile_alpha"])
    return [f"quantile_{alpha:g}" for alpha in np.atleast_1d(alphas).tolist()]
