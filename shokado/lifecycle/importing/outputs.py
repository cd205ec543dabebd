"""Outputs: how many numbers a model gives a row, and what each is called.

A model out of the registry goes in; their number and their names come out.
"""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from shokado.lifecycle.importing import boosters
from shokado.lifecycle.importing.own_models import own_model
from shokado.lifecycle.importing.recoding import levels_of
from shokado.lifecycle.importing.registry import LoadedModel
from shokado.lifecycle.importing.text_conversion import vectorizers_of


def outputs_of(source: LoadedModel, width: int) -> int:
    """How many numbers, or labels, the model gives a row; 1 where it takes none of the rows that are tried."""
    if boosters.is_xgboost(source.model):
        return boosters.targets_of(source.model)
    if own_model(source.model) is not None:
        return 1
    counts = (_count(source.model, rows) for rows in _rows(source, width))
    return next((count for count in counts if count is not None), 1)


def _count(model: Any, rows: Any) -> int | None:
    try:
        answer = np.asarray(model.predict(rows))
    except Exception:  # what it does not take is said where its columns are read
        return None
    return int(answer.shape[1]) if answer.ndim > 1 else 1


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
    positions = [str(index) for index in range(count)]
    for names in (_in_signature(source), _quantiles(source.model)):
        if len(names) == len(set(names)) == count and names != positions:
            return tuple(names)
    return tuple(f"output_{position}" for position in positions)


def _in_signature(source: LoadedModel) -> list[str]:
    outputs = source.signature.outputs if source.signature is not None else None
    if outputs is None or outputs.is_tensor_spec():
        return []
    return [str(column.name) for column in outputs.inputs if column.name is not None]


def _quantiles(model: Any) -> list[str]:
    if not boosters.is_xgboost(model) or boosters.objective_of(model) != "reg:quantileerror":
        return []
    alphas = json.loads(boosters.learner_of(model)["objective"]["quantile_loss_param"]["quantile_alpha"])
    return [f"quantile_{alpha:g}" for alpha in np.atleast_1d(alphas).tolist()]
