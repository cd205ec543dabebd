"""Rows of a signature: what a model's signature and its data say of its columns, without the model itself.

The description of a model, and perhaps a file, go in; features and plain rows come out: numbers, truth values, texts,
and None for what is missing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from runners.inputs.columns import Column, Number, Text
from runners.inputs.schema import MAX_LEVELS, Feature
from shokado.lifecycle.errors import ReferenceRefused, UnsupportedModel
from shokado.lifecycle.importing.outputs import names_in_signature
from shokado.lifecycle.importing.reference_rows import check_columns, open_columns
from shokado.lifecycle.importing.registry import DescribedModel
from shokado.lifecycle.importing.signature_columns import FEATURE_TYPES, FeatureType, type_of

ROWS = 500
"""Rows that are taken of a longer table, evenly."""
_ANY_LENGTH = 2**31


@dataclass(frozen=True)
class SignatureRows:
    """Features in the signature's order, rows of them, and the columns in which values may be missing.

    Attributes:
        said: where the rows are from, and how many levels that gave.
        outputs: what the signature calls what the model gives, if it does.
    """

    features: tuple[Feature, ...]
    rows: list[list[Any]]
    optional: frozenset[str]
    said: str
    outputs: tuple[str, ...] = ()


def rows_of_signature(described: DescribedModel, reference: Path | None) -> SignatureRows:
    """The rows of that file, else of the input example. Raises `UnsupportedModel` and `ReferenceRefused`."""
    signed = _columns(described)
    kinds = {str(column.name): FEATURE_TYPES[type_of(column)] for column in signed}
    frame, where = _frame(described, reference, kinds)
    optional = {str(column.name) for column in signed if not column.required}
    columns = {name: [_plain(value) for value in frame[name].tolist()] for name in kinds}
    features = tuple(_feature(name, kind, columns[name], where, alone=len(kinds) == 1) for name, kind in kinds.items())
    kept = np.unique(np.linspace(0, len(frame) - 1, min(len(frame), ROWS)).round().astype(int))
    rows = [[_fitting(columns[feature.name][row], feature, where) for feature in features] for row in kept]
    optional |= {name for name, values in columns.items() if None in values}
    levels = [f"{len(feature.levels)} levels of {feature.name}" for feature in features if feature.levels]
    said = f"{len(frame):,} rows, {where}" + (f", which has {', '.join(levels)}" if levels else "")
    outputs = tuple(names_in_signature(described.signature))
    return SignatureRows(features, rows, frozenset(optional), said, outputs)


def _columns(described: DescribedModel) -> list[Any]:
    """The columns of the signature, which have names, and kinds that rows can have."""
    inputs = described.signature.inputs if described.signature is not None else None
    if inputs is None or inputs.is_tensor_spec() or not inputs.has_input_names():
        raise UnsupportedModel(
            f"{described.uri} has no signature that names its columns: log it with a frame as its input_example."
        )
    if odd := [f"{column.name} ({kind})" for column in inputs.inputs if (kind := type_of(column)) not in FEATURE_TYPES]:
        raise UnsupportedModel(
            f"{described.uri} takes what are neither numbers nor truth values nor texts: {', '.join(odd)[:300]}."
        )
    return list(inputs.inputs)


def _frame(
    described: DescribedModel, reference: Path | None, kinds: Mapping[str, FeatureType]
) -> tuple[pd.DataFrame, str]:
    if reference is not None:
        columns: list[Column] = [
            Text(name, _ANY_LENGTH) if kind == "text" else Number(name, nullable=True) for name, kind in kinds.items()
        ]
        table = open_columns(reference, columns)
        check_columns(table, list(kinds))
        frame, where = pd.concat(list(table.frames), ignore_index=True), str(reference)
    elif isinstance(described.example, pd.DataFrame):
        frame, where = described.example, "the input example"
        missing = [name for name in kinds if name not in frame.columns]
        frame = frame.assign(**dict.fromkeys(missing))
    else:
        raise ReferenceRefused(
            f"{described.uri} has no frame as its input example: name a table of rows with --reference FILE."
        )
    if not len(frame):
        raise ReferenceRefused(f"{where} has no rows.")
    return frame, where


def _plain(value: Any) -> Any:
    """A value as JSON has it; None where it is missing, or an empty cell."""
    value = value.item() if isinstance(value, np.generic) else value
    if value is None or value is pd.NA or value == "" or (isinstance(value, float) and isnan(value)):
        return None
    return value


def _feature(name: str, kind: FeatureType, values: Sequence[Any], where: str, *, alone: bool) -> Feature:
    if alone or kind != "text":
        return Feature(name=name, type=kind)
    levels = tuple(sorted({value for value in values if isinstance(value, str)}))
    if not 0 < len(levels) <= MAX_LEVELS:
        raise ReferenceRefused(
            f"The texts of {name!r} are its levels, of which {where} has {len(levels)}: name a table that has them all "
            "with --reference FILE."
        )
    return Feature(name=name, type="category", levels=levels)


def _fitting(value: Any, feature: Feature, where: str) -> Any:
    """The value as its column has it: tables have whole numbers and truth values as numbers where some are missing."""
    match feature.type:
        case _ if value is None and feature.type != "text":
            return None
        case "text" | "category" if isinstance(value, str):
            return value
        case "boolean" if value in (0, 1):
            return value == 1
        case "integer" if isinstance(value, int | float) and float(value).is_integer():
            return int(value)
        case "float" if isinstance(value, int | float):
            return float(value)
    raise ReferenceRefused(f"{where} has {value!r} for {feature.name!r}, which is no {feature.type}.")
