"""Precisions: whether a model's numbers may need more digits than float32 has, by what is known before it is tried.

A loaded model goes in; out comes whether it rounds its rows itself, and which of its columns have large whole numbers.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from runners.inputs.precision import FLOAT32
from runners.inputs.schema import Feature
from shokado.lifecycle.importing import boosters
from shokado.lifecycle.importing.label_rules import without_threshold
from shokado.lifecycle.importing.onnx_models import OnnxModel
from shokado.lifecycle.importing.own_models import own_model
from shokado.lifecycle.importing.probing_rows import remembered
from shokado.lifecycle.importing.registry import LoadedModel
from shokado.lifecycle.importing.tree_nodes import BOOSTED, FORESTS, TREES


def makes_float32(model: Any) -> bool:
    """Whether the framework itself makes float32 of the rows, so that none of its answers needs more."""
    model = without_threshold(getattr(model, "best_estimator_", model))
    if (own := own_model(model)) is not None:
        return not own.compares_doubles
    if isinstance(model, OnnxModel):
        return model.makes_float32
    return boosters.is_xgboost(model) or isinstance(model, (*TREES, *FORESTS, *BOOSTED))


def large_integers(source: LoadedModel, features: Sequence[Feature]) -> set[str]:
    """The columns of whole numbers, of which some are beyond those that float32 has all of."""
    ends = remembered(source.model, len(features))
    return {
        feature.name
        for at, feature in enumerate(features)
        if feature.type == "integer"
        and max(_largest(_column(source.example, feature.name, at)), _largest(ends[:, at])) > FLOAT32.whole
    }


def _column(example: Any, name: str, at: int) -> Any:
    """What an input example has in a column; empty where there is no such column."""
    if isinstance(example, pd.DataFrame):
        return example[name] if name in example.columns else ()
    rows = np.asarray(() if example is None else example)
    return rows[..., at] if rows.ndim and rows.shape[-1] > at else ()


def _largest(values: Any) -> float:
    """The largest size of some numbers; 0 where there are none."""
    numbers = np.abs(pd.to_numeric(pd.Series(np.ravel(values)), errors="coerce").to_numpy(dtype=np.float64))
    return float(np.nanmax(numbers)) if np.isfinite(numbers).any() else 0.0
