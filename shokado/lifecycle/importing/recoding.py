"""Recoding: a scikit-learn model with categories, made to take them as numbers: the position of each one's level.

A fitted model goes in; what is known of its columns of texts, and a copy that takes bare float32 [N, features] and
answers the same, come out.

    transformer of categories --(asked for each level, for a missing one, for another text)--> `LevelTable`

What an encoder answers is in the table, so that its settings need not be known. Only what looks at one column at a
time, and at all unknown texts alike, is asked so; other transformers of texts are refused. Columns are found by their
position, no more by name.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from onnx import TensorProto
from skl2onnx import update_registered_converter
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, TargetEncoder

from runners.inputs.columns import Category
from runners.inputs.schema import Feature
from shokado.lifecycle.errors import UnsupportedModel
from shokado.lifecycle.importing.probing_rows import parts_of

MAX_TABLED_LEVELS = 2000
"""A table has a row for each level, and as many columns as the encoder makes: of one-hot ones, as many again."""


_ENCODERS = (OneHotEncoder, OrdinalEncoder, TargetEncoder)
"""What makes numbers of each column for itself, and of every text that it does not know the same ones."""


_OF_TREES = ("sklearn.tree", "sklearn.ensemble", "lightgbm", "catboost")
"""How the modules of models begin that are made of trees."""


@dataclass(frozen=True, eq=False)
class ColumnTable:
    """What a transformer makes of one column, whatever the others are."""

    values: NDArray[np.float64]
    """A row for each level or key, then one for anything else, then one for what is missing: [levels + 2, width]."""
    keys: NDArray[np.float32] | None
    """The numbers that the rows are for; None: they are for their positions."""
    at: NDArray[np.int64]
    """Which of the transformer's columns these are."""


class LevelTable(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Stands for a transformer of categories."""

    def __init__(self, tables: Sequence[ColumnTable] = ()) -> None:
        self.tables = tables

    def fit(self, *_: Any) -> "LevelTable":
        """There is nothing to learn."""
        return self


def levels_of(model: Any, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The levels that a model's encoders know, by column: those of columns that hold texts."""
    found: dict[str, dict[str, None]] = {}
    for name, known in _known(model, names):
        if texts := [level for level in known if isinstance(level, str)]:
            found.setdefault(name, {}).update(dict.fromkeys(texts))
    return {name: tuple(levels) for name, levels in found.items()}


def gaps_of(model: Any, names: Sequence[str]) -> dict[str, Any]:
    """What a missing text was in the training, by column of texts: None or NaN. Raises `UnsupportedModel`."""
    found: dict[str, Any] = {}
    for name, known in _known(model, names):
        has_none = any(level is None for level in known)
        has_nan = any(isinstance(level, float) and np.isnan(level) for level in known)
        if has_none and (has_nan or found.get(name) is not None):
            raise UnsupportedModel(f"{name} was trained with None and with NaN, which are one and the same in JSON.")
        found[name] = None if has_none else np.nan
    return found


def unused(model: Any, names: Sequence[str]) -> set[str]:
    """The columns that the model is given and drops."""
    entrance = _entrance(model)
    if not hasattr(entrance, "transformers_"):
        return set()
    taken = {
        names[column]
        for _, transformer, columns in entrance.transformers_
        if not (isinstance(transformer, str) and transformer == "drop")
        for column in _positions(entrance, columns, names)
    }
    return set(names) - taken


def recoded(model: Any, features: Sequence[Feature]) -> Any:
    """The model as a copy that takes positions of levels, and finds its columns by position.

    Raises `UnsupportedModel` where that cannot be.
    """
    if hasattr(model, "best_estimator_"):
        changed = copy.copy(model)
        changed.best_estimator_ = recoded(model.best_estimator_, features)
        return changed
    if getattr(model, "steps", None):
        changed = copy.copy(model)
        (name, first), *rest = model.steps
        changed.steps = [(name, _recoded_entrance(first, features)), *rest]
        _refuse_scaled_trees(model)
        return changed
    return _recoded_entrance(model, features)


def _recoded_entrance(entrance: Any, features: Sequence[Feature]) -> Any:
    """The transformer, or model, that is given all columns."""
    names = [feature.name for feature in features]
    if getattr(entrance, "steps", None):
        return recoded(entrance, features)
    if hasattr(entrance, "transformers_"):
        changed = copy.copy(entrance)
        changed.transformers_ = [
            (name, _recoded_branch(transformer, at, features), at)
            for name, transformer, columns in entrance.transformers_
            for at in [_positions(entrance, columns, names)]
        ]
        return changed
    if any(feature.levels for feature in features):
        return _recoded_branch(entrance, list(range(len(features))), features)
    return entrance


def _recoded_branch(transformer: Any, at: Sequence[int], features: Sequence[Feature]) -> Any:
    """What stands in a branch that is given these columns."""
    taken = [features[index] for index in at]
    if isinstance(transformer, str) and transformer == "drop":
        return transformer
    if encoder_of(transformer) is not None and taken:
        return LevelTable(_tables(transformer, taken))
    if texts := ", ".join(feature.name for feature in taken if feature.levels):
        kind = transformer if isinstance(transformer, str) else type(transformer).__name__
        raise UnsupportedModel(
            f"It gives texts ({texts}) to {kind}: what stands before an encoder of texts can only be a SimpleImputer "
            "for missing ones, and nothing behind it in the same branch."
        )
    return transformer


def encoder_of(transformer: Any) -> Any:
    """The encoder that a branch is, alone or behind imputers of missing values; None for any other branch."""
    *before, last = [step for _, step in transformer.steps] if hasattr(transformer, "steps") else [transformer]
    if type(last) not in _ENCODERS:
        return None
    for step in before:
        if isinstance(step, str) and step == "passthrough":
            continue
        is_imputer = type(step) is SimpleImputer and not step.add_indicator
        if not is_imputer or not (isinstance(step.missing_values, float) and np.isnan(step.missing_values)):
            return None
    return last


def _refuse_scaled_trees(model: Any) -> None:
    """Trees compare with values of their data, which a scaler before them makes others of in float32."""
    entrance = _entrance(model)
    if not hasattr(entrance, "transformers_"):
        return
    trees = [part for part in parts_of(model) if type(part).__module__.startswith(_OF_TREES)]
    trees = [part for part in trees if not hasattr(part, "named_estimators_")]
    if any(hasattr(part, "_predictors") for part in trees):
        raise UnsupportedModel(
            "Histogram gradient boosting stands behind a ColumnTransformer, where ONNX cannot compare as it does: take "
            "gradient boosting or a random forest."
        )
    for _, transformer, _ in entrance.transformers_:
        if not trees or isinstance(transformer, str) or encoder_of(transformer) is not None:
            continue
        steps = [step for _, step in transformer.steps] if hasattr(transformer, "steps") else [transformer]
        for step in steps:
            passes_through = isinstance(step, str) or (type(step) is FunctionTransformer and step.func is None)
            if not (passes_through or type(step) is SimpleImputer):
                raise UnsupportedModel(
                    f"Its trees stand behind a {type(step).__name__}, which ONNX computes in float32: trees need no "
                    "scaling, so leave it out."
                )


def _entrance(model: Any) -> Any:
    """The transformer that is given all columns, or the model itself."""
    if hasattr(model, "best_estimator_"):
        return _entrance(model.best_estimator_)
    return _entrance(model.steps[0][1]) if getattr(model, "steps", None) else model


def _known(model: Any, names: Sequence[str]) -> list[tuple[str, Any]]:
    """What encoders know of each column that they are given."""
    entrance = _entrance(model)
    branches = [(entrance, list(range(len(names))))]
    if hasattr(entrance, "transformers_"):
        branches = [
            (transformer, _positions(entrance, columns, names)) for _, transformer, columns in entrance.transformers_
        ]
    return [
        (names[column], known)
        for transformer, columns in branches
        if (encoder := encoder_of(transformer)) is not None
        for column, known in zip(columns, encoder.categories_, strict=True)
    ]


def _positions(transformer: Any, columns: Any, names: Sequence[str]) -> list[int]:
    """The positions of a ColumnTransformer's columns, which may be names, positions, a slice or a mask."""
    own = [str(name) for name in getattr(transformer, "feature_names_in_", names)]
    chosen = np.arange(len(own))
    if isinstance(columns, str):
        columns = [columns]
    if isinstance(columns, slice) and isinstance(columns.start or columns.stop, str):
        start = own.index(columns.start) if columns.start is not None else 0
        stop = own.index(columns.stop) + 1 if columns.stop is not None else len(own)
        columns = slice(start, stop, columns.step)
    if not isinstance(columns, slice) and len(columns) and isinstance(columns[0], str):
        chosen = chosen[[own.index(name) for name in columns]]
    else:
        chosen = np.atleast_1d(chosen[columns])
    return [list(names).index(own[index]) for index in chosen.tolist()]


def _tables(transformer: Any, features: Sequence[Feature]) -> list[ColumnTable]:
    """Raises `UnsupportedModel`."""
    values = [_values_of(transformer, index, feature) for index, feature in enumerate(features)]
    base = [known[0] for known in values]
    answers = [_answers(transformer, features, base, index, known) for index, known in enumerate(values)]
    owners = _owners(answers, features)
    tables = []
    for index, (feature, known, (answer, taken)) in enumerate(zip(features, values, answers, strict=True)):
        at = np.flatnonzero(owners == index)
        keys = None if feature.levels else np.array(known[:-2], dtype=np.float32)
        if keys is not None and (keys != np.array(known[:-2], dtype=np.float64)).any():
            raise UnsupportedModel(f"An encoder takes numbers of {feature.name} that float32 does not hold.")
        rows = np.where(taken[:, None], answer[:, at], 0)
        tables.append(ColumnTable(rows.astype(np.float64), keys, at))
    if not any(len(table.at) for table in tables):
        raise UnsupportedModel(f"An encoder of {', '.join(feature.name for feature in features)} answers nothing.")
    return tables


def _values_of(transformer: Any, index: int, feature: Feature) -> list[Any]:
    """All that tells a column's values apart for a transformer: its levels, one of none of them, and a missing one."""
    known = list(encoder_of(transformer).categories_[index])
    if feature.levels:
        if len(feature.levels) > MAX_TABLED_LEVELS:
            raise UnsupportedModel(
                f"{feature.name} has {len(feature.levels)} levels; at most {MAX_TABLED_LEVELS} can be served."
            )
        column = Category(feature.name, feature.nullable, feature.levels, feature.other)
        missing = None if any(level is None for level in known) else np.nan
        return [*feature.levels, column.spell(len(feature.levels)), missing]
    if not all(isinstance(value, bool | int | float | np.number | np.bool_) for value in known):
        raise UnsupportedModel(f"An encoder takes texts and other values of {feature.name} at once.")
    numbers = [float(value) for value in known if np.isfinite(value)]
    return [*numbers, max(numbers, default=0.0) + 1, np.nan]


def _answers(
    transformer: Any, features: Sequence[Feature], base: Sequence[Any], index: int, values: Sequence[Any]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """What the transformer makes of each value of one column, [values, width], and which of them it takes."""
    rows = [[*base[:index], value, *base[index + 1 :]] for value in values]
    known = _transformed(transformer, features, rows[:-2])
    answers, taken = np.full((len(rows), known.shape[1]), np.nan), np.full(len(rows), fill_value=True)
    answers[:-2] = known
    for at in (-2, -1):
        try:
            answers[at] = _transformed(transformer, features, [rows[at]])[0]
        except (ValueError, TypeError):
            taken[at] = False
    return answers, taken


def _transformed(transformer: Any, features: Sequence[Feature], rows: Sequence[Sequence[Any]]) -> NDArray[np.float64]:
    # A column of nothing but a missing level would be one of numbers.
    frame = pd.DataFrame(
        {
            feature.name: pd.Series(list(values), dtype=object if feature.levels else None)
            for feature, values in zip(features, zip(*rows, strict=True), strict=True)
        }
    )
    answer = transformer.transform(frame if hasattr(transformer, "feature_names_in_") else frame.to_numpy(object))
    return np.asarray(answer.toarray() if hasattr(answer, "toarray") else answer, dtype=np.float64)


def _owners(
    answers: Sequence[tuple[NDArray[np.float64], NDArray[np.bool_]]], features: Sequence[Feature]
) -> NDArray[np.int64]:
    """Which column each of the transformer's columns depends on; the first one where it depends on none."""
    changing = np.array(
        [
            (~((answer == answer[0]) | (np.isnan(answer) & np.isnan(answer[0]))) & taken[:, None]).any(axis=0)
            for answer, taken in answers
        ]
    )
    both = np.flatnonzero(changing.sum(axis=0) > 1)
    if len(both):
        together = ", ".join(features[int(index)].name for index in np.flatnonzero(changing[:, both[0]]))
        raise UnsupportedModel(f"A transformer makes one number of several columns of texts ({together}).")
    return np.asarray(changing.argmax(axis=0))


def _shapes(operator: Any) -> None:
    width = sum(len(table.at) for table in operator.raw_operator.tables)
    kind = DoubleTensorType if isinstance(operator.inputs[0].type, DoubleTensorType) else FloatTensorType
    operator.outputs[0].type = kind([operator.inputs[0].get_first_dimension(), width])


def _convert(scope: Any, operator: Any, container: Any) -> None:
    """Nodes of ONNX that look each column up, and put what they find into the transformer's order."""
    tables = operator.raw_operator.tables
    is_wide = isinstance(operator.inputs[0].type, DoubleTensorType)
    number = TensorProto.DOUBLE if is_wide else TensorProto.FLOAT
    found = []

    def add(kind: str, inputs: list[str], **attributes: Any) -> str:
        output: str = scope.get_unique_variable_name(kind.lower())
        name = scope.get_unique_operator_name(kind)
        container.add_node(kind, inputs, [output], name=name, op_version=attributes.pop("version", 13), **attributes)
        return output

    def constant(values: NDArray[Any]) -> str:
        kind = TensorProto.INT64 if values.dtype == np.int64 else number
        name: str = scope.get_unique_variable_name("table")
        container.add_initializer(name, kind, list(values.shape), values.ravel().tolist())
        return name

    for index, table in enumerate(tables):
        if not len(table.at):
            continue
        column = add("Gather", [operator.inputs[0].full_name, constant(np.array([index]))], axis=1)
        missing = add("IsNaN", [column])
        values = table.values
        if table.keys is None:
            last = constant(np.array([[len(values) - 1]], dtype=np.float32))
            at = add("Cast", [add("Where", [missing, last, column])], to=TensorProto.INT64)
            rows = add("Gather", [constant(values), at], axis=0)
            found.append(add("Reshape", [rows, constant(np.array([-1, values.shape[1]]))]))
            continue
        same = add("Cast", [add("Equal", [column, constant(table.keys[None, :])])], to=TensorProto.FLOAT)
        is_known = add("Cast", [add("ReduceMax", [same], axes=[1], keepdims=1)], to=TensorProto.BOOL)
        row = add("Gather", [constant(values[:-2]), add("ArgMax", [same], axis=1, keepdims=0)], axis=0)
        known = add("Where", [is_known, row, constant(values[-2:-1])])
        found.append(add("Where", [missing, constant(values[-1:]), known]))
    joined = found[0] if len(found) == 1 else add("Concat", found, axis=1)
    order = np.argsort(np.concatenate([table.at for table in tables]))
    final = joined if (order == np.arange(len(order))).all() else add("Gather", [joined, constant(order)], axis=1)
    name = scope.get_unique_operator_name("Identity")
    container.add_node("Identity", [final], [operator.outputs[0].full_name], name=name, op_version=13)


update_registered_converter(LevelTable, "ShokadoLevelTable", _shapes, _convert, overwrite=True)
