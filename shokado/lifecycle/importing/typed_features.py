"""What a model takes besides numbers: missing values and unknown levels, found out by asking the model itself.

Features as the signature has them go in, and come out with what their values may be.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.impute._iterative import IterativeImputer

from runners.inputs.schema import Feature
from shokado.lifecycle.importing.level_texts import spelt_other
from shokado.lifecycle.importing.probing_rows import parts_of
from shokado.lifecycle.importing.recoding import gaps_of
from shokado.lifecycle.importing.registry import LoadedModel
from shokado.lifecycle.importing.signature_columns import name_of

_FILLERS = (IterativeImputer, KNNImputer, SimpleImputer)


def typed_features(source: LoadedModel, features: Sequence[Feature]) -> tuple[Feature, ...]:
    """The features, each with whether a value may be missing, and another level than the known ones be given.

    A level may be missing where the model answers a row that lacks it; a number where besides there is reason to think
    that it was trained so: it fills values in, or the signature calls the column optional, as MLflow does of gaps.
    """
    if not any(feature.levels for feature in features) and not may_be_missing(source, features):
        return tuple(features)
    if hasattr(source.model, "save_config"):  # a Booster, which takes no frame, and any gap
        optional = optional_columns(source)
        return tuple(feature.model_copy(update={"nullable": feature.name in optional}) for feature in features)
    row = {feature.name: _some_value(feature) for feature in features}
    row |= _example(source, features)
    optional = may_be_missing(source, features)
    gaps = gaps_of(source.model, [feature.name for feature in features])
    found = []
    for feature in features:
        changes: dict[str, Any] = {}
        is_asked = feature.type != "text" and (feature.levels or feature.name in optional)
        gap = gaps.get(feature.name, np.nan) if feature.levels or feature.type == "boolean" else np.nan
        if is_asked and _answers(source.model, features, row | {feature.name: gap}):
            changes["nullable"] = True
        if feature.levels:
            changes["other"] = _answers(source.model, features, row | {feature.name: spelt_other(feature)})
        found.append(feature.model_copy(update=changes))
    return tuple(found)


def _some_value(feature: Feature) -> Any:
    if feature.type == "text":
        return ""
    return feature.levels[0] if feature.levels else 0.0


def may_be_missing(source: LoadedModel, features: Sequence[Feature]) -> set[str]:
    """The columns in which the training may have had gaps."""
    if any(isinstance(part, _FILLERS) for part in parts_of(source.model)):
        return {feature.name for feature in features}
    return optional_columns(source)


def optional_columns(source: LoadedModel) -> set[str]:
    """The columns that the signature calls optional."""
    inputs = source.signature.inputs if source.signature is not None else None
    if inputs is None or inputs.is_tensor_spec():
        return set()
    return {name_of(column) for column in inputs.inputs if not getattr(column, "required", True)}


def _example(source: LoadedModel, features: Sequence[Feature]) -> dict[str, Any]:
    """The first row of the input example that has no gaps."""
    example, names = source.example, [feature.name for feature in features]
    if not isinstance(example, pd.DataFrame) or not set(names) <= set(example.columns):
        return {}
    whole = example[names].dropna()
    return dict(whole.iloc[0]) if len(whole) else {}


def _given(model: Any, features: Sequence[Feature], row: dict[str, Any]) -> Any:
    """The row as the model takes it."""
    # A column of nothing but a missing level, or truth value, would be one of numbers.
    are_objects = {feature.name: bool(feature.levels) or feature.type in ("text", "boolean") for feature in features}
    kinds = {name: object if is_object else None for name, is_object in are_objects.items()}
    frame = pd.DataFrame({name: pd.Series([row[name]], dtype=kind) for name, kind in kinds.items()})
    return frame if getattr(model, "feature_names_in_", None) is not None else frame.to_numpy()


def _answers(model: Any, features: Sequence[Feature], row: dict[str, Any]) -> bool:
    """Whether the model scores the row, and with numbers."""
    given = _given(model, features, row)
    try:
        ask = next((name for name in ("predict_proba", "decision_function") if hasattr(model, name)), "predict")
        scores = getattr(model, ask)(given)
        tables = scores if isinstance(scores, list) else [scores]  # of several labels one each
        return all(np.isfinite(np.asarray(table, dtype=np.float64)).all() for table in tables)
    except (ValueError, TypeError):
        return False
