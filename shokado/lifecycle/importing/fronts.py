"""Fronts: the steps before a model, as far as each of their outputs depends on one column alone.

Which column that is follows from the kind of each step, in the same order as the steps themselves have their outputs;
what the steps make of it is asked of them. Where a step mixes columns, there is no such front.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.preprocessing import (
    Binarizer,
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
    TargetEncoder,
)
from sklearn.utils.validation import check_array

from runners.inputs.schema import Feature
from shokado.lifecycle.errors import UnsupportedModel
from shokado.lifecycle.importing.level_texts import as_truths, spelt_other
from shokado.lifecycle.importing.numeric_steps import FLOORS, INCREASING, SMALLEST, is_nan

MAX_TABLED = 2000 * 2000
"""How many numbers a table may have: a row for each level, and as many columns as the steps make, of which one-hot
encoders make as many again."""
ENCODERS = (OneHotEncoder, OrdinalEncoder, TargetEncoder)
"""What makes numbers of each column for itself, and of every text that it does not know the same ones."""
_INCREASING = (
    Binarizer,
    MaxAbsScaler,
    MinMaxScaler,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)
"""What keeps the order of each column's numbers."""


class State(Enum):
    """What has become of a column's values on the way."""

    RAW = auto()
    """Nothing, but that missing ones may have been filled in."""
    CHANGED = auto()
    """Other numbers in the same order."""
    ENCODED = auto()
    """One of finitely many numbers."""


@dataclass(frozen=True)
class ColumnOrigin:
    """What one output of a front comes from."""

    column: int
    state: State = State.RAW
    floor: float = -np.inf
    """The smallest number that has a value on the way."""


@dataclass(frozen=True, eq=False)
class Known:
    """What an encoder knows of a column: its values in the training, among them what was missing."""

    column: int
    values: list[Any]


class Walk:
    """A way through steps: what they know of columns is noted on it.

    `known` is what encoders know, `floors` the smallest number of a column that has a value, `edges` where bins of a
    column begin, and `stopped_by` names what mixes columns.
    """

    def __init__(self, features: Sequence[Feature] | int) -> None:
        names = range(features) if isinstance(features, int) else features
        self._is_text = [bool(getattr(feature, "levels", ())) for feature in names]
        self.known: list[Known] = []
        self.floors: dict[int, float] = {}
        self.edges: list[tuple[int, NDArray[np.float64]]] = []
        self.stopped_by = ""

    def through(self, steps: Sequence[Any]) -> list[ColumnOrigin] | None:
        """The origin of each output, or None where there is a step that mixes columns."""
        return self._chained(steps, [ColumnOrigin(column) for column in range(len(self._is_text))])

    def _after(self, step: Any, given: list[ColumnOrigin]) -> list[ColumnOrigin] | None:
        if step is None or isinstance(step, str):
            return [] if step == "drop" else given
        if hasattr(step, "steps"):
            return self._chained([part for _, part in step.steps], given)
        if hasattr(step, "transformers_"):
            branches = [
                (part, [given[at] for at in positions(step, columns, len(given))])
                for _, part, columns in step.transformers_
            ]
            return self._beside(branches)
        if hasattr(step, "transformer_list"):
            return self._beside([(part, given) for _, part in step.transformer_list])
        after = self._encoded(step, given) if type(step) in ENCODERS else self._passed(step, given)
        if after is None and not self.stopped_by:
            self.stopped_by = type(step).__name__
        return after

    def _chained(self, parts: Sequence[Any], given: list[ColumnOrigin]) -> list[ColumnOrigin] | None:
        found: list[ColumnOrigin] | None = given
        for part in parts:
            if found is not None:
                found = self._after(part, found)
        return found

    def _beside(self, branches: Sequence[tuple[Any, list[ColumnOrigin]]]) -> list[ColumnOrigin] | None:
        # All of them are walked: an encoder behind one that mixes columns is one all the same.
        found = [self._after(part, given) for part, given in branches if given]
        return None if None in found else [origin for outputs in found for origin in outputs or ()]

    def _encoded(self, encoder: Any, given: list[ColumnOrigin]) -> list[ColumnOrigin] | None:
        outputs: list[ColumnOrigin] = []
        is_changed = False
        for origin, values, width in zip(given, encoder.categories_, _widths(encoder), strict=True):
            after = origin
            if origin.state is State.RAW:
                self.known.append(Known(origin.column, list(values)))
                after = replace(origin, state=State.ENCODED)
            is_changed |= origin.state is State.CHANGED
            outputs += [after] * width
        return None if is_changed else outputs

    def _passed(self, step: Any, given: list[ColumnOrigin]) -> list[ColumnOrigin] | None:
        if hasattr(step, "get_support"):
            return [given[at] for at in np.flatnonzero(step.get_support())]
        if type(step) is SimpleImputer:
            return self._imputed(step, given)
        if type(step) is MissingIndicator and is_nan(step.missing_values):
            return self._indicated(step, given)
        if type(step) is FunctionTransformer and (step.func is None or _only_checks(step.func)):
            return given
        if any(self._is_text[origin.column] and origin.state is State.RAW for origin in given):
            return None
        if type(step) is KBinsDiscretizer:
            raw = enumerate(given)
            self.edges += [(one.column, step.bin_edges_[at]) for at, one in raw if one.state is State.RAW]
        floor = _floor_of(step)
        if floor is None or (np.isfinite(floor) and any(origin.state is State.CHANGED for origin in given)):
            return None
        return [self._changed(origin, floor) for origin in given]

    def _changed(self, origin: ColumnOrigin, floor: float) -> ColumnOrigin:
        if origin.state is State.ENCODED:
            return origin
        if np.isfinite(floor):
            self.floors[origin.column] = max(floor, self.floors.get(origin.column, floor))
        return replace(origin, state=State.CHANGED, floor=max(floor, origin.floor))

    def _imputed(self, step: SimpleImputer, given: list[ColumnOrigin]) -> list[ColumnOrigin] | None:
        if not is_nan(step.missing_values):
            return None
        kept = [origin for origin, value in zip(given, step.statistics_, strict=True) if not pd.isna(value)]
        indicated = self._indicated(step.indicator_, given) if step.add_indicator else []
        return kept + indicated

    def _indicated(self, step: MissingIndicator, given: list[ColumnOrigin]) -> list[ColumnOrigin]:
        return [
            replace(given[at], state=State.ENCODED) if given[at].state is State.RAW else given[at]
            for at in step.features_
        ]


class Front:
    """Steps that look at each column for itself, and what they make of values.

    Args:
        gaps: what a missing text was in the training, by column: None or NaN.
        given: what scikit-learn is given numbers as.
    """

    def __init__(
        self,
        steps: Sequence[Any],
        features: Sequence[Feature],
        gaps: Mapping[str, Any],
        given: type[np.floating],
    ) -> None:
        self.features = features
        self._steps, self._gaps, self._given = steps, gaps, given
        walk = Walk(features)
        self.origins = walk.through(steps)
        self.stopped_by = walk.stopped_by
        self._known = walk.known
        self._answers: dict[int, tuple[NDArray[np.float64], NDArray[np.bool_]]] = {}
        # Numbers that no function stumbles over, and each encoder knows.
        numbers = {known.column: value for known in walk.known for value in _numbers(known.values)[:1]}
        self._base = [
            feature.levels[0] if feature.levels else numbers.get(at, 1.0) for at, feature in enumerate(features)
        ]

    def of(self, values: Mapping[int, Sequence[Any] | NDArray[Any]], count: int) -> NDArray[np.float64]:
        """What the steps make of `count` rows with these values in some columns: [count, outputs].

        Raises what the steps raise of values that they do not take.
        """
        columns = {}
        for at, (feature, base) in enumerate(zip(self.features, self._base, strict=True)):
            column = values.get(at)
            if feature.levels:
                # A column of nothing but a missing level would be one of numbers.
                columns[feature.name] = pd.Series([base] * count if column is None else list(column), dtype=object)
            else:
                numbers = np.full(count, base) if column is None else np.asarray(column, dtype=np.float64)
                if feature.type == "boolean":
                    columns[feature.name] = as_truths(numbers, self._gaps.get(feature.name, np.nan))
                else:
                    columns[feature.name] = pd.Series(numbers.astype(self._given))
        frame = pd.DataFrame(columns)
        answer: Any = frame
        if self._steps and not hasattr(self._steps[0], "feature_names_in_"):
            is_mixed = any(feature.levels for feature in self.features)
            answer = frame.to_numpy(object if is_mixed else self._given)
        with np.errstate(all="ignore"):
            for step in self._steps:
                if step is not None and not isinstance(step, str):
                    answer = step.transform(answer)
        return np.asarray(answer.toarray() if hasattr(answer, "toarray") else answer, dtype=np.float64)

    def keys_of(self, column: int) -> NDArray[np.float32] | None:
        """The numbers that encoders tell apart in a column; None for one of levels. Raises `UnsupportedModel`."""
        feature = self.features[column]
        if feature.levels:
            return None
        known = [value for one in self._known if one.column == column for value in one.values]
        may_be_none = feature.type == "boolean"
        if not all(
            isinstance(value, bool | int | float | np.number | np.bool_) or (value is None and may_be_none)
            for value in known
        ):
            raise UnsupportedModel(
                f"An encoder knows {_kinds_of(known)} of {feature.name} at once, which one type of JSON cannot say: "
                "make texts of all of them, or numbers, before the training."
            )
        keys = np.array(sorted(set(_numbers(known))), dtype=np.float64)
        if (keys != keys.astype(np.float32)).any():
            lost = keys[keys != keys.astype(np.float32)][0].item()
            raise UnsupportedModel(
                f"An encoder tells numbers of {feature.name} apart that rows of float32 do not hold, such as {lost!r}: "
                "make texts of them before the training (astype(str))."
            )
        return keys.astype(np.float32)

    def answers(self, column: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """What becomes of each level or key of a column, of any other, and of a missing one: [values, outputs].

        And which of them are taken. Raises `UnsupportedModel`.
        """
        if column not in self._answers:
            self._answers[column] = self._asked(column)
        return self._answers[column]

    def _asked(self, column: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        feature, keys = self.features[column], self.keys_of(column)
        known: list[Any] = list(feature.levels) if keys is None else keys.astype(np.float64).tolist()
        width = len(self.origins or ())
        if len(known) * width > MAX_TABLED:
            raise UnsupportedModel(
                f"{feature.name} has {len(known)} levels, and the steps behind them make {width} columns, which is too "
                "much to be looked up: take a TargetEncoder or an OrdinalEncoder, or gather rare levels with "
                "max_categories."
            )
        other: Any = max(known, default=0.0) + 1 if keys is not None else spelt_other(feature)
        gap = np.nan if keys is not None else self._gaps.get(feature.name, np.nan)
        try:
            answers = self.of({column: known or [other]}, len(known or [other]))
        except (ValueError, TypeError) as error:
            raise UnsupportedModel(
                f"Not every encoder of the model takes all that others know of {feature.name}: give them "
                "handle_unknown='ignore', or the same training data."
            ) from error
        answers = np.vstack([answers[: len(known)], np.full((2, answers.shape[1]), np.nan)])
        is_taken = np.full(len(answers), fill_value=True)
        for at, value in ((-2, other), (-1, gap)):
            try:
                answers[at] = self.of({column: [value]}, 1)[0]
            except (ValueError, TypeError):
                is_taken[at] = False
        return answers, is_taken

    def of_missing(self, column: int) -> NDArray[np.float64] | None:
        """What becomes of a row with a gap in a column of numbers; None where that is not taken."""
        try:
            return np.asarray(self.of({column: [np.nan]}, 1)[0])
        except (ValueError, TypeError):
            return None


def positions(transformer: Any, columns: Any, width: int) -> list[int]:
    """The positions of a ColumnTransformer's columns, which may be names, positions, a slice or a mask."""
    own = [str(name) for name in getattr(transformer, "feature_names_in_", range(width))]
    chosen = np.arange(len(own))
    if isinstance(columns, str):
        columns = [columns]
    if isinstance(columns, slice) and isinstance(columns.start or columns.stop, str):
        start = own.index(columns.start) if columns.start is not None else 0
        stop = own.index(columns.stop) + 1 if columns.stop is not None else len(own)
        columns = slice(start, stop, columns.step)
    if not isinstance(columns, slice) and np.ndim(columns) and len(columns) and isinstance(columns[0], str):
        return [own.index(name) for name in columns]
    if np.ndim(columns) and not len(columns):
        return []
    return [int(at) for at in np.atleast_1d(chosen[columns])]


def _floor_of(step: Any) -> float | None:
    """The smallest number that has a value in a step which keeps the order of numbers; None for any other step."""
    if type(step) is PowerTransformer and step.method == "box-cox":
        return SMALLEST
    if type(step) is FunctionTransformer:
        return FLOORS.get(step.func, -np.inf) if step.func in INCREASING and not step.kw_args else None
    is_increasing = type(step) in _INCREASING or (type(step) is KBinsDiscretizer and step.encode == "ordinal")
    return -np.inf if is_increasing else None


def _widths(encoder: Any) -> list[int]:
    """How many outputs an encoder has for each of its columns."""
    if isinstance(encoder, OneHotEncoder):
        return [int(width) for width in encoder._n_features_outs]
    several = isinstance(encoder, TargetEncoder) and encoder.target_type_ == "multiclass"
    return [len(encoder.classes_) if several else 1] * len(encoder.categories_)


def _numbers(values: Any) -> tuple[float, ...]:
    """The numbers among what an encoder knows; those of truth values are 0 and 1."""
    numbers = (value for value in values if isinstance(value, bool | int | float | np.number | np.bool_))
    return tuple(float(number) for number in numbers if np.isfinite(number))


def _kinds_of(values: Any) -> str:
    """The types of some values, in words."""
    return " and ".join(sorted({type(value).__name__ for value in values}))


def _only_checks(function: Any) -> bool:
    """Whether it is what histogram gradient boosting puts before its numbers."""
    return isinstance(function, functools.partial) and function.func is check_array
