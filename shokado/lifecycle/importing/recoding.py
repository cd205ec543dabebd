"""Recoding: a scikit-learn model with categories, made to take them as numbers: the position of each one's level.

A fitted model goes in; what is known of its columns of texts, and a copy that takes bare float32 [N, features] and
answers the same, come out.

    transformer of categories --(asked for each level, for a missing one, for another text)--> `LevelTable`

So nothing of what an encoder does has to be known: what it answers is in the table. Where one of its columns depends on
another one there is no such table, and the model is refused. Columns are found by their position, no more by name.
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
from skl2onnx.common.data_types import FloatTensorType
from sklearn.base import BaseEstimator, TransformerMixin

from runners.inputs.columns import Category
from runners.inputs.schema import Feature
from shokado.lifecycle.errors import UnsupportedModel
from shokado.lifecycle.importing.probing_rows import parts_of

MAX_TABLED_LEVELS = 2000
"""A table has a row for each level, and as many columns as the encoder makes: of one-hot ones, as many again."""


@dataclass(frozen=True, eq=False)
class ColumnTable:
    """What a transformer makes of one column, whatever the others are."""

    values: NDArray[np.float32]
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
    for transformer, columns in _branches(model, names):
        for categories in _categories(transformer, len(columns)):
            for column, known in zip(columns, categories, strict=True):
                texts = [level for level in known if isinstance(level, str)]
                if texts:
                    found.setdefault(names[column], {}).update(dict.fromkeys(texts))
    return {name: tuple(levels) for name, levels in found.items()}


def unused(model: Any, names: Sequence[str]) -> set[str]:
    """The columns that the model is given and drops."""
    transformers = [part for part in parts_of(model) if hasattr(part, "transformers_")]
    taken = {
        names[column]
        for part in transformers
        for _, transformer, columns in part.transformers_
        if not (isinstance(transformer, str) and transformer == "drop")
        for column in _positions(part, columns, names)
    }
    return set(names) - taken if transformers else set()


def recoded(model: Any, features: Sequence[Feature]) -> Any:
    """The model as a copy that takes positions of levels, and finds its columns by position.

    Raises `UnsupportedModel` where that cannot be.
    """
    names = [feature.name for feature in features]
    if hasattr(model, "transformers_"):
        changed = copy.copy(model)
        changed.transformers_ = [
            (name, _recoded_branch(transformer, _positions(model, columns, names), features), at)
            for name, transformer, columns in model.transformers_
            for at in [_positions(model, columns, names)]
        ]
        return changed
    if hasattr(model, "steps") and model.steps:
        changed = copy.copy(model)
        (name, first), *rest = model.steps
        first = _recoded_step(first, features)
        changed.steps = [(name, first), *rest]
        return changed
    for name in ("best_estimator_", "estimator_"):
        if hasattr(model, name):
            changed = copy.copy(model)
            setattr(changed, name, recoded(getattr(model, name), features))
            return changed
    return model


def _recoded_step(step: Any, features: Sequence[Feature]) -> Any:
    """The first step of a pipeline, which is given all columns."""
    if hasattr(step, "transformers_") or hasattr(step, "steps"):
        return recoded(step, features)
    return _recoded_branch(step, list(range(len(features))), features)


def _recoded_branch(transformer: Any, at: Sequence[int], features: Sequence[Feature]) -> Any:
    """What stands in a branch that is given these columns."""
    taken = [features[index] for index in at]
    if not any(feature.levels for feature in taken) or transformer == "drop":
        return transformer
    if isinstance(transformer, str):
        shown = ", ".join(feature.name for feature in taken if feature.levels)
        raise UnsupportedModel(f"Its estimator is given texts as they are ({shown}): encode them.")
    return LevelTable(_tables(transformer, taken))


def _branches(model: Any, names: Sequence[str]) -> list[tuple[Any, list[int]]]:
    """The transformers that are given columns of the input itself, with the positions of those."""
    found = []
    for part in parts_of(model):
        if hasattr(part, "transformers_"):
            for _, transformer, columns in part.transformers_:
                if not isinstance(transformer, str):
                    found.append((transformer, _positions(part, columns, names)))
        elif getattr(part, "steps", None) and not hasattr(part.steps[0][1], "transformers_"):
            found.append((part.steps[0][1], list(range(len(names)))))
    return found


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


def _categories(transformer: Any, columns: int) -> list[Any]:
    """What encoders in it know of each of so many columns."""
    known = (getattr(part, "categories_", None) for part in parts_of(transformer))
    return [categories for categories in known if categories is not None and len(categories) == columns]


def _tables(transformer: Any, features: Sequence[Feature]) -> list[ColumnTable]:
    """Raises `UnsupportedModel`."""
    values = [_values_of(transformer, index, feature, len(features)) for index, feature in enumerate(features)]
    base = [known[0] for known in values]
    answers = [_answers(transformer, features, base, index, known) for index, known in enumerate(values)]
    owners = _owners(answers, features)
    tables = []
    for index, (feature, known, (answer, taken)) in enumerate(zip(features, values, answers, strict=True)):
        at = np.flatnonzero(owners == index)
        keys = None if feature.levels else np.array(known[:-2], dtype=np.float32)
        rows = np.where(taken[:, None], answer[:, at], 0)
        tables.append(ColumnTable(rows.astype(np.float32), keys, at))
    return tables


def _values_of(transformer: Any, index: int, feature: Feature, columns: int) -> list[Any]:
    """All that tells a column's values apart for a transformer: its levels, one of none of them, and a missing one."""
    if feature.levels:
        if len(feature.levels) > MAX_TABLED_LEVELS:
            raise UnsupportedModel(
                f"{feature.name} has {len(feature.levels)} levels; at most {MAX_TABLED_LEVELS} can be served."
            )
        column = Category(feature.name, feature.nullable, feature.levels, feature.other)
        return [*feature.levels, column.spell(len(feature.levels)), np.nan]
    known = _categories(transformer, columns)
    if not known:
        raise UnsupportedModel(
            f"{type(transformer).__name__} takes numbers ({feature.name}) and texts at once: give it one of them."
        )
    numbers = [float(value) for value in known[0][index] if isinstance(value, int | float | np.number)]
    numbers = [number for number in numbers if np.isfinite(number)]
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
    operator.outputs[0].type = FloatTensorType([operator.inputs[0].get_first_dimension(), width])


def _convert(scope: Any, operator: Any, container: Any) -> None:
    """Nodes of ONNX that look each column up, and put what they find into the transformer's order."""
    tables = operator.raw_operator.tables
    found = []

    def add(kind: str, inputs: list[str], **attributes: Any) -> str:
        output: str = scope.get_unique_variable_name(kind.lower())
        name = scope.get_unique_operator_name(kind)
        container.add_node(kind, inputs, [output], name=name, op_version=attributes.pop("version", 13), **attributes)
        return output

    def constant(values: NDArray[Any]) -> str:
        kind = TensorProto.INT64 if values.dtype == np.int64 else TensorProto.FLOAT
        name: str = scope.get_unique_variable_name("table")
        container.add_initializer(name, kind, list(values.shape), values.ravel().tolist())
        return name

    for index, table in enumerate(tables):
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
