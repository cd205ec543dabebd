"""Recoding: the steps of a scikit-learn model, made to take categories as numbers: the position of each one's level.

What is known of a model's columns of texts comes out, and copies of its steps that take bare float32 [N, columns] and
answer the same.

    encoder of categories --(asked for each level, for a missing one, for another text)--> `LevelTable`

What an encoder answers is in the table, so that its settings need not be known. Only what looks at one column at a
time, and at all unknown texts alike, is asked so; other transformers of texts are refused. Columns are found by their
position, no more by name.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline

from runners.inputs.schema import Feature
from shokado.lifecycle.errors import UnsupportedModel
from shokado.lifecycle.importing.float32_bounds import Digits
from shokado.lifecycle.importing.fronts import ENCODERS, Front, Walk, positions
from shokado.lifecycle.importing.leaves import Leaf, leaves_of
from shokado.lifecycle.importing.level_tables import ColumnTable, LevelTable
from shokado.lifecycle.importing.onnx_models import OnnxModel
from shokado.lifecycle.importing.stand_ins import convertible

_EXPLAINED = (
    "what stands before an encoder of texts can only be a SimpleImputer for missing ones, and columns of texts must "
    "reach one"
)


def levels_of(model: Any, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The levels that a model's encoders know, by column: those of columns that hold texts."""
    if isinstance(model, OnnxModel):
        return {name: levels for name, levels in zip(names, model.levels, strict=True) if levels}
    found: dict[str, dict[str, None]] = {}
    for column, known in _known(model, len(names)):
        if texts := [level for level in known if isinstance(level, str)]:
            found.setdefault(names[column], {}).update(dict.fromkeys(texts))
    return {name: tuple(levels) for name, levels in found.items()}


def gaps_of(model: Any, names: Sequence[str]) -> dict[str, Any]:
    """What a missing text was in the training, by column of texts: None or NaN. Raises `UnsupportedModel`."""
    found: dict[str, set[str]] = {}
    for column, known in _known(model, len(names)):
        gaps = found.setdefault(names[column], set())
        gaps.update("None" for level in known if level is None)
        gaps.update("NaN" for level in known if isinstance(level, float) and np.isnan(level))
        if len(gaps) > 1:
            raise UnsupportedModel(
                f"{names[column]} was trained with None and with NaN, which are one and the same in JSON: fill in one "
                "of them in the training data."
            )
    return {name: None if "None" in gaps else np.nan for name, gaps in found.items()}


def unused(model: Any, names: Sequence[str]) -> set[str]:
    """The columns that the model is given and drops."""
    taken: set[int] = set()
    for leaf in leaves_of(model):
        taken.update(_taken(leaf.steps[0] if leaf.steps else None, len(names)))
    return {name for at, name in enumerate(names) if at not in taken}


def _taken(step: Any, width: int) -> list[int]:
    """The columns that a first step does not drop."""
    while hasattr(step, "steps"):
        step = step.steps[0][1]
    if not hasattr(step, "transformers_"):
        return list(range(width))
    return [
        at
        for _, branch, columns in step.transformers_
        if not (isinstance(branch, str) and branch == "drop")
        for at in positions(step, columns, width)
    ]


def by_position(model: Any) -> Any:
    """A pipeline, or a step, whose transformers of columns find these by position, as skl2onnx does in one matrix."""
    if hasattr(model, "best_estimator_"):
        return by_position(model.best_estimator_)
    if hasattr(model, "steps"):
        return Pipeline([(name, by_position(part)) for name, part in model.steps])
    changed = model
    if hasattr(model, "transformer_list"):
        changed = copy.copy(model)
        changed.transformer_list = [(name, by_position(part)) for name, part in model.transformer_list]
    if hasattr(model, "transformers_"):
        changed = copy.copy(model)
        changed.transformers_ = [
            (name, by_position(part), _by_position(model, columns)) for name, part, columns in model.transformers_
        ]
    return changed


def _by_position(transformer: Any, columns: Any) -> Any:
    """Columns that are said by name; what is said by position may count the terms of a text, and not columns."""
    first = columns.start or columns.stop if isinstance(columns, slice) else next(iter(np.atleast_1d(columns)), None)
    return positions(transformer, columns, transformer.n_features_in_) if isinstance(first, str) else columns


def steps_before(leaf: Leaf) -> tuple[Any, ...]:
    """All that a leaf's rows go through: histogram gradient boosting encodes its categories itself."""
    own = getattr(leaf.model, "_preprocessor", None)
    return (*leaf.steps, *([] if own is None else [own]))


def knows_objects(model: Any, width: int) -> bool:
    """Whether encoders know texts or truth values."""
    return any(isinstance(level, str | bool | np.bool_) for _, known in _known(model, width) for level in known)


def has_encoders(model: Any, width: int) -> bool:
    return bool(_known(model, width))


def _known(model: Any, width: int) -> list[tuple[int, list[Any]]]:
    """What encoders know of each column that they are given."""
    return [(known.column, known.values) for walk in _walks(model, width) for known in walk.known]


def _walks(model: Any, width: int) -> list[Walk]:
    walks = []
    for leaf in leaves_of(model):
        walk = Walk(width)
        walk.through(steps_before(leaf))
        walks.append(walk)
    return walks


def floors_of(model: Any, width: int) -> NDArray[np.float64]:
    """The smallest number of each column for which its steps have a value: [width]."""
    floors = np.full(width, -np.inf)
    for walk in _walks(model, width):
        for column, floor in walk.floors.items():
            floors[column] = max(floors[column], floor)
    return floors


def mixes_columns(model: Any, width: int) -> bool:
    """Whether steps before a model make one number of several columns."""
    return any(walk.stopped_by for walk in _walks(model, width))


def edges_of(model: Any, width: int) -> list[tuple[int, float]]:
    """Where bins of a column begin, as pairs of the column and the number."""
    walks = _walks(model, width)
    return [(column, float(edge)) for walk in walks for column, edges in walk.edges for edge in edges]


@dataclass(frozen=True, eq=False)
class Recoding:
    """How to recode a model's steps.

    Attributes:
        features: of the columns that the steps are given.
        gaps: what a missing text was in the training, by column: None or NaN.
        digits: what the columns' numbers are like.
        terms: how many columns, the last ones, are made of texts.
    """

    features: Sequence[Feature]
    gaps: Mapping[str, Any]
    digits: Digits
    terms: int = 0

    def of(self, steps: Sequence[Any]) -> list[Any]:
        """Steps that take positions of levels, as skl2onnx converts them. Raises `UnsupportedModel`."""
        return self._recoded(list(steps), list(range(len(self.features))))

    def _recoded(self, steps: list[Any], at: Sequence[int] | None) -> list[Any]:
        """The steps of a branch that is given these columns; None: the outputs of others."""
        if at is None:
            return [self._behind(step) for step in steps]
        count = _encoder_at(steps)
        if count is not None and at:
            table = LevelTable(self._tables(steps[: count + 1], at))
            return [table, *self._recoded(steps[count + 1 :], None)]
        if not steps:
            return steps
        first, *rest = steps
        if hasattr(first, "steps"):
            return self._recoded([*[step for _, step in first.steps], *rest], at)
        if hasattr(first, "transformers_") or hasattr(first, "transformer_list"):
            return [self._beside(first, at), *self._recoded(rest, None)]
        if isinstance(first, str) or first is None or not any(self.features[index].levels for index in at):
            if _passes(first):
                return [first, *self._recoded(rest, at)]
            exact = [bool(self.digits.exact[index]) for index in at]
            return [convertible(first, exact), *self._recoded(rest, None)]
        texts = ", ".join(self.features[index].name for index in at if self.features[index].levels)
        raise UnsupportedModel(f"It gives texts ({texts}) to {type(first).__name__}: {_EXPLAINED}.")

    def _beside(self, first: Any, at: Sequence[int]) -> Any:
        """A ColumnTransformer or a union, with recoded branches."""
        changed = copy.copy(first)
        if hasattr(first, "transformer_list"):
            changed.transformer_list = [(name, self._branch(part, at)) for name, part in first.transformer_list]
            return changed
        changed.transformers_ = [
            (name, self._branch(part, [at[slot] for slot in slots]), slots)
            for name, part, columns in first.transformers_
            for slots in [positions(first, columns, len(at))]
        ]
        return changed

    def _branch(self, part: Any, at: Sequence[int]) -> Any:
        if isinstance(part, str) and part == "drop":
            return part
        if not at:
            return "drop"
        texts = [self.features[index].name for index in at if self.features[index].levels]
        if texts and _passes(part):
            raise UnsupportedModel(f"It lets texts ({', '.join(texts)}) through as they are: {_EXPLAINED}.")
        steps = self._recoded([part], at)
        return steps[0] if len(steps) == 1 else Pipeline([(f"step{slot}", step) for slot, step in enumerate(steps)])

    def _behind(self, step: Any) -> Any:
        """A step that is given numbers which others have made."""
        if hasattr(step, "steps"):
            return Pipeline([(name, self._behind(part)) for name, part in step.steps])
        if hasattr(step, "transformer_list"):
            changed = copy.copy(step)
            changed.transformer_list = [(name, self._behind(part)) for name, part in step.transformer_list]
            return changed
        if hasattr(step, "transformers_"):
            changed = copy.copy(step)
            changed.transformers_ = [
                (name, self._behind(part), positions(step, columns, step.n_features_in_))
                for name, part, columns in step.transformers_
            ]
            return changed
        if type(step) in ENCODERS:
            raise UnsupportedModel(
                f"Its {type(step).__name__} encodes what other steps make, where it must be given columns themselves."
            )
        return convertible(step, [False] * int(getattr(step, "n_features_in_", 0)))

    def _tables(self, steps: Sequence[Any], at: Sequence[int]) -> list[ColumnTable]:
        front = Front(steps, [self.features[index] for index in at], self.gaps, self.digits.given)
        tables = []
        for slot in range(len(at)):
            outputs = np.array(
                [output for output, origin in enumerate(front.origins or ()) if origin.column == slot], dtype=np.int64
            )
            if not len(outputs):
                continue
            answers, is_taken = front.answers(slot)
            rows = np.where(is_taken[:, None], answers[:, outputs], 0).astype(np.float32)
            tables.append(ColumnTable(slot, rows, outputs, keys=front.keys_of(slot)))
        if not tables:
            names = ", ".join(feature.name for feature in front.features)
            raise UnsupportedModel(f"An encoder of {names} answers nothing.")
        return tables


def _encoder_at(steps: Sequence[Any]) -> int | None:
    """Which of some steps is an encoder that stands alone or behind imputers of missing values; None: there is none."""
    for slot, step in enumerate(steps):
        if type(step) in ENCODERS:
            return slot
        if not (_passes(step) or _fills_in(step)):
            return None
    return None


def _fills_in(step: Any) -> bool:
    """Whether a step is an imputer of missing values."""
    is_imputer = type(step) is SimpleImputer and not step.add_indicator
    return is_imputer and isinstance(step.missing_values, float) and bool(np.isnan(step.missing_values))


def _passes(step: Any) -> bool:
    """Whether a step leaves columns as they are."""
    return step is None or (isinstance(step, str) and step == "passthrough") or _is_identity(step)


def _is_identity(step: Any) -> bool:
    return type(step).__name__ == "FunctionTransformer" and step.func is None
