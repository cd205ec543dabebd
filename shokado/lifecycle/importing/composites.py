"""Composites: votes, stacks, calibrations and changed targets, as one ONNX graph of the graphs of their leaves.

    leaf of trees     --(folded_trees)--------.
    other leaf        --(recoding, skl2onnx)--+--> scores --(vote, stack, calibration, target)--> scores
    leaf of XGBoost   --(folded_trees)--------'

Every leaf is given the columns themselves, and what stands before it is put into it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto
from sklearn.base import is_classifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import StackingClassifier
from sklearn.impute import KNNImputer, MissingIndicator, SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    RobustScaler,
    StandardScaler,
)

from runners.inputs.schema import Feature
from shokado.lifecycle.errors import UnsupportedModel
from shokado.lifecycle.importing import booster_graphs, boosters
from shokado.lifecycle.importing.float32_bounds import Digits
from shokado.lifecycle.importing.folded_trees import folded_margins
from shokado.lifecycle.importing.fronts import ENCODERS, Front, State
from shokado.lifecycle.importing.graph_builder import Builder
from shokado.lifecycle.importing.graphs import INPUT
from shokado.lifecycle.importing.leaves import STACKS, VOTES, Leaf, leaves_of, members_of, steps_of, within
from shokado.lifecycle.importing.links import Link
from shokado.lifecycle.importing.numeric_steps import FUNCTIONS, computed
from shokado.lifecycle.importing.probing_rows import sentinels_of
from shokado.lifecycle.importing.recoding import Recoding, gaps_of, has_encoders, steps_before
from shokado.lifecycle.importing.scaled_trees import scaler_of
from shokado.lifecycle.importing.tree_nodes import ensemble_of, linked

Plain = Callable[[Any, int, bool], ModelProto]
"""skl2onnx's conversion of a model or transformer of so many columns; or of its decision function."""
_CHANGED_STEPS = (*ENCODERS, FunctionTransformer, KBinsDiscretizer, KNNImputer, MissingIndicator)
_TREES = ("sklearn.tree", "sklearn.ensemble", "lightgbm", "catboost")
_DECISION, _PROBABILITIES = "decision_function", "predict_proba"


def is_plain(model: Any, features: Sequence[Feature], *, is_wide: bool = False) -> bool:
    """Whether skl2onnx converts a model of scikit-learn exactly as it is.

    `is_wide`: for rows of float64, in which it has scalers and trees exactly.
    """
    leaves = leaves_of(model)
    if any(feature.levels for feature in features) or has_encoders(model, len(features)):
        return False
    if any(boosters.is_xgboost(leaf.model) or any(map(_is_changed, leaf.steps)) for leaf in leaves):
        return False
    if any(isinstance(part, CalibratedClassifierCV | TransformedTargetRegressor) for part in _combinations(model)):
        return False
    if any(_is_exponential(leaf.model) for leaf in leaves):
        return False  # it has the trees alone
    if is_wide:
        return True
    has_gaps = any(feature.nullable for feature in features)
    if has_gaps and any(ensemble_of(leaf.model) and not hasattr(leaf.model, "_predictors") for leaf in leaves):
        return False  # which side a gap goes to, it knows of histograms alone
    if not any(leaf.steps for leaf in leaves) or scaler_of(model) is not None:
        return True
    return _alone(model) is not None and ensemble_of(leaves[0].model) is None


def compares_digits(model: Any, features: Sequence[Feature]) -> bool:
    """Whether trees tell numbers apart that float32 does not: in float64, or behind steps that change numbers."""
    if boosters.is_xgboost(model) or not hasattr(model, "n_features_in_"):
        return False
    for leaf in leaves_of(model):
        if (ensemble := ensemble_of(leaf.model)) is None:
            continue
        origins = Front(steps_before(leaf), features, {}, np.float64).origins or ()
        changed = any(origin.state is State.CHANGED for origin in origins)
        if changed or (origins and ensemble.compared_as is np.float64):
            return True
    return False


def _is_exponential(model: Any) -> bool:
    """Whether it is histogram gradient boosting of counts or amounts, whose trees add up to a logarithm."""
    ensemble = ensemble_of(model) if hasattr(model, "_predictors") else None
    return ensemble is not None and ensemble.link is Link.EXP


def _combinations(model: Any) -> list[Any]:
    """The model and those that it is made of, but for what stands before them."""
    inner = [within(model)] if within(model) is not None else members_of(model)
    inner = [model[-1]] if isinstance(model, Pipeline) else inner
    return [model, *(part for one in inner for part in _combinations(one))]


def _is_changed(step: Any) -> bool:
    """Whether a step, or one within it, is none that skl2onnx converts as scikit-learn computes it."""
    parts = [part for _, part in getattr(step, "steps", None) or getattr(step, "transformer_list", None) or ()]
    parts += [part for _, part, _ in getattr(step, "transformers_", ())]
    if type(step) is SimpleImputer:
        return step.add_indicator or isinstance(step.missing_values, int)
    is_one = type(step) in _CHANGED_STEPS and getattr(step, "func", True) is not None
    return is_one or any(_is_changed(part) for part in parts)


@dataclass(frozen=True, eq=False)
class _Given:
    """A tensor of float32, and what its columns are."""

    source: str
    recoding: Recoding
    is_columns: bool = True
    """Whether they are the model's own, and no scores of others."""

    @property
    def width(self) -> int:
        return len(self.recoding.features)


def compose(
    model: Any, features: Sequence[Feature], digits: Digits, plain: Plain, whole: Callable[[Any], ModelProto]
) -> ModelProto:
    """The graph of a fitted model of scikit-learn. Raises `UnsupportedModel`.

    Args:
        plain: skl2onnx's conversion of a part, for rows of float32.
        whole: that of a whole model, for rows as they come.
    """
    gaps = gaps_of(model, [feature.name for feature in features])
    recoding = Recoding(features, gaps, digits)
    composer = _Composer(Builder(len(features)), plain)
    alone = _alone(model)
    if alone is not None and (recoded := composer.alone(alone, _Given(INPUT, recoding))) is not None:
        return whole(recoded)
    return composer.builder.model(composer.scores(model, (), _Given(INPUT, recoding)))


def _alone(model: Any) -> Leaf | None:
    """The one leaf of a model that is no combination."""
    steps: tuple[Any, ...] = ()
    while (inner := within(model)) is not None or isinstance(model, Pipeline):
        if inner is None:
            steps, inner = (*steps, *steps_of(model)), model[-1]
        model = inner
    return None if members_of(model) else Leaf(steps, model)


class _Composer:
    def __init__(self, builder: Builder, plain: Plain) -> None:
        self.builder, self._plain = builder, plain

    def scores(self, model: Any, steps: tuple[Any, ...], given: _Given, method: str = _PROBABILITIES) -> str:
        """Probabilities [N, classes], a decision [N, 1] or [N, classes], or for regression a value [N, 1]."""
        if (inner := within(model)) is not None:
            return self.scores(inner, steps, given, method)
        if isinstance(model, Pipeline):
            return self.scores(model[-1], (*steps, *steps_of(model)), given, method)
        if isinstance(model, VOTES):
            return self._vote(model, steps, given)
        if isinstance(model, STACKS):
            return self._stack(model, steps, given, method)
        if isinstance(model, CalibratedClassifierCV):
            return self._calibrated(model, steps, given)
        if isinstance(model, TransformedTargetRegressor):
            return self._target(model, steps, given)
        return self._leaf(Leaf(steps, model), given, method)

    def alone(self, leaf: Leaf, given: _Given) -> Any | None:
        """A leaf as skl2onnx takes it; None of one that is converted here."""
        if self._front(leaf, given) is not None or boosters.is_xgboost(leaf.model):
            return None
        return self._recoded(leaf, given)

    def _leaf(self, leaf: Leaf, given: _Given, method: str) -> str:
        front, ensemble = self._front(leaf, given), ensemble_of(leaf.model)
        if not given.is_columns and (ensemble is not None or type(leaf.model).__module__.startswith(_TREES)):
            raise UnsupportedModel(
                f"A {type(leaf.model).__name__} reads the scores of other models, which ONNX has in float32, and "
                "compares them with those of its training: take a linear model as the final_estimator."
            )
        if front is not None and ensemble is not None:
            margin = folded_margins(self.builder, ensemble, front, given.recoding.digits, given.source)
            if method == _DECISION:
                return margin
            is_binary = is_classifier(leaf.model) and len(leaf.model.classes_) == 2
            return linked(self.builder, ensemble, margin, is_binary=is_binary)
        if boosters.is_xgboost(leaf.model):
            return self._booster(leaf, given)
        is_decision = method == _DECISION
        found = self.builder.include(self._plain(self._recoded(leaf, given), given.width, is_decision), given.source)
        if is_decision and len(leaf.model.classes_) == 2:
            return self.builder.column(found, -1)
        return found

    def _front(self, leaf: Leaf, given: _Given) -> Front | None:
        """What stands before trees, where it looks at each column for itself; None before anything else."""
        ensemble = ensemble_of(leaf.model)
        if ensemble is None or not given.is_columns:
            return None
        if boosters.is_xgboost(leaf.model) and sentinels_of(leaf.model):
            return None
        recoding = given.recoding
        front = Front(steps_before(leaf), recoding.features, recoding.gaps, recoding.digits.given)
        return None if front.origins is None else front

    def _booster(self, leaf: Leaf, given: _Given) -> str:
        """A model of XGBoost whose trees are not folded, or that has none."""
        is_linear = ensemble_of(leaf.model) is None
        if leaf.steps and not is_linear:
            self._refuse(leaf, given)
        source, width = given.source, given.width
        if leaf.steps:
            steps = given.recoding.of(leaf.steps)
            source = self.builder.include(self._plain(_chained(steps), width, False), source)
            width = leaf.model.n_features_in_
        return self.builder.include(booster_graphs.convert(leaf.model, width)[0], source)

    def _recoded(self, leaf: Leaf, given: _Given) -> Any:
        """The leaf behind steps as skl2onnx takes them."""
        parts = [leaf.model, *np.ravel(getattr(leaf.model, "estimators_", []))]
        if any(type(part).__module__.startswith(_TREES) for part in parts):
            self._check_trees(leaf, given)
        steps = given.recoding.of(leaf.steps)
        return _chained([*steps, leaf.model]) if steps else leaf.model

    def _check_trees(self, leaf: Leaf, given: _Given) -> None:
        """Raise `UnsupportedModel` where trees would compare what ONNX has in float32."""
        features = given.recoding.features
        front = Front(steps_before(leaf), features, given.recoding.gaps, given.recoding.digits.given)
        is_own = getattr(leaf.model, "_preprocessor", None) is not None
        is_mixed = any(feature.levels for feature in features)
        is_exact = front.origins is not None and all(
            origin.state is not State.CHANGED and not np.isfinite(origin.floor) for origin in front.origins
        )
        if is_own or (is_mixed and not is_exact):
            self._refuse(leaf, given, front)

    def _refuse(self, leaf: Leaf, given: _Given, front: Front | None = None) -> None:
        recoding = given.recoding
        front = front or Front(steps_before(leaf), recoding.features, recoding.gaps, recoding.digits.given)
        name = type(leaf.model).__name__
        if boosters.is_xgboost(leaf.model) and sentinels_of(leaf.model):
            raise UnsupportedModel(
                f"Its {name} has missing={leaf.model.missing} behind other steps: give it NaN for what is missing."
            )
        behind = f"a {front.stopped_by}" if front.stopped_by else "steps that change numbers"
        raise UnsupportedModel(
            f"Its {name} stands behind {behind}, which ONNX computes in float32, and its trees compare with values of "
            "their data: scalers, encoders, and imputers of NaN may stand before trees, which need none of the rest."
        )

    def _vote(self, model: Any, steps: tuple[Any, ...], given: _Given) -> str:
        members = members_of(model)
        weights = model._weights_not_none if model.weights is not None else [1.0] * len(members)
        return self._averaged([self.scores(member, steps, given) for member in members], weights)

    def _averaged(self, found: Sequence[str], weights: Sequence[float]) -> str:
        weighed = [
            name if weight == 1 else self.builder.add("Mul", [name, self._number(weight)])
            for name, weight in zip(found, weights, strict=True)
        ]
        total = self.builder.add("Sum", weighed) if len(weighed) > 1 else weighed[0]
        return self.builder.add("Div", [total, self._number(float(np.sum(weights)))])

    def _stack(self, model: Any, steps: tuple[Any, ...], given: _Given, method: str) -> str:
        if model.passthrough:
            raise UnsupportedModel(
                f"Its {type(model).__name__} has passthrough=True, which gives columns to its last model beside the "
                "scores of others: train it without."
            )
        is_binary = isinstance(model, StackingClassifier) and len(model.classes_) == 2
        found, width = [], 0
        for member, asked in zip(members_of(model), model.stack_method_, strict=True):
            if isinstance(model, StackingClassifier) and asked == "predict":
                raise UnsupportedModel(
                    f"Its {type(model).__name__} reads the labels of a {type(member).__name__}: take models with "
                    "probabilities."
                )
            scores = self.scores(member, steps, given, asked)
            is_halved = is_binary and asked == _PROBABILITIES
            found.append(self.builder.column(scores, 1) if is_halved else scores)
            width += 1 if is_binary or not isinstance(model, StackingClassifier) else len(model.classes_)
        joined = self.builder.add("Concat", found, axis=1)
        features = [Feature(name=f"score {at}") for at in range(width)]
        inner = Recoding(features, {}, Digits(*np.zeros((2, width), dtype=bool)))
        return self.scores(model.final_estimator_, (), _Given(joined, inner, is_columns=False), method)

    def _calibrated(self, model: CalibratedClassifierCV, steps: tuple[Any, ...], given: _Given) -> str:
        calibrated = model.calibrated_classifiers_
        return self._averaged([self._calibration(one, steps, given) for one in calibrated], [1.0] * len(calibrated))

    def _calibration(self, calibrated: Any, steps: tuple[Any, ...], given: _Given) -> str:
        estimator, classes = calibrated.estimator, len(calibrated.classes)
        if calibrated.method not in ("sigmoid", "isotonic"):
            raise UnsupportedModel(
                f"It is calibrated by method={calibrated.method!r}, which has no conversion: take 'sigmoid' or "
                "'isotonic'."
            )
        if len(estimator.classes_) != classes:
            raise UnsupportedModel(
                "A part of its calibration was trained without some of its classes: use fewer folds."
            )
        method = _DECISION if hasattr(estimator, _DECISION) else _PROBABILITIES
        scores = self.scores(estimator, steps, given, method)
        if classes == 2:
            positive = self.builder.column(scores, -1)
            return self.builder.with_counterpart(self._calibrate(calibrated.calibrators[0], positive))
        found = [
            self._calibrate(calibrator, self.builder.column(scores, at))
            for at, calibrator in enumerate(calibrated.calibrators)
        ]
        joined = self.builder.add("Concat", found, axis=1)
        axes = self.builder.constant(np.array([1]))
        total = self.builder.add("ReduceSum", [joined, axes], keepdims=1)
        is_nothing = self.builder.add("Equal", [total, self._number(0)])
        shares = self.builder.add("Div", [joined, total])
        return self.builder.add("Where", [is_nothing, self._number(1 / classes), shares])

    def _calibrate(self, calibrator: Any, scores: str) -> str:
        if hasattr(calibrator, "a_"):
            slope, intercept = self._number(-calibrator.a_), self._number(-calibrator.b_)
            return self.builder.add(
                "Sigmoid", [self.builder.add("Add", [self.builder.add("Mul", [scores, slope]), intercept])]
            )
        return self._interpolated(calibrator, scores)

    def _interpolated(self, calibrator: Any, scores: str) -> str:
        """Straight lines between the points of an isotonic regression, as the sum of what each of them rises."""
        add, constant = self.builder.add, self.builder.constant
        x, y = (np.asarray(points, dtype=np.float64) for points in (calibrator.X_thresholds_, calibrator.y_thresholds_))
        wide = add("Cast", [scores], to=TensorProto.DOUBLE)
        if len(x) == 1:
            x, y = np.array([x[0], x[0] + 1]), np.array([y[0], y[0]])
        beyond = add("Max", [add("Sub", [wide, constant(x[None, :-1])]), constant(np.zeros((1, 1)))])
        within_each = add("Min", [beyond, constant(np.diff(x)[None, :])])
        risen = add("MatMul", [within_each, constant((np.diff(y) / np.diff(x))[:, None])])
        return add("Cast", [add("Add", [risen, constant(np.array(y[0]))])], to=TensorProto.FLOAT)

    def _target(self, model: TransformedTargetRegressor, steps: tuple[Any, ...], given: _Given) -> str:
        add, constant, inverse = self.builder.add, self.builder.constant, model.transformer_
        value = self.scores(model.regressor_, steps, given)
        if isinstance(inverse, FunctionTransformer):
            if inverse.inverse_func is None:
                return value
            if inverse.inverse_func in FUNCTIONS and not inverse.inv_kw_args:
                return add("Cast", [computed(self.builder, inverse.inverse_func, value)], to=TensorProto.FLOAT)
            name = getattr(inverse.inverse_func, "__name__", type(inverse.inverse_func).__name__)
            raise UnsupportedModel(
                f"Its target goes through {name}, which is Python code and has no conversion to ONNX: take one of "
                f"numpy's {', '.join(function.__name__ for function in FUNCTIONS)}."
            )
        if (line := _inverse_line(inverse)) is None:
            raise UnsupportedModel(
                f"Its target goes through a {type(inverse).__name__}, which has no conversion: take a scaler, or "
                "func=numpy.log1p with inverse_func=numpy.expm1."
            )
        wide = add("Cast", [value], to=TensorProto.DOUBLE)
        moved = add("Add", [add("Mul", [wide, constant(line[0])]), constant(line[1])])
        return add("Cast", [moved], to=TensorProto.FLOAT)

    def _number(self, value: float) -> str:
        return self.builder.constant(np.array(value, dtype=np.float32))


def _chained(steps: Sequence[Any]) -> Any:
    return Pipeline([(f"step{slot}", step) for slot, step in enumerate(steps)])


def _inverse_line(scaler: Any) -> tuple[Any, Any] | None:
    """Slope and intercept of what takes a scaler's numbers back; None where it is no straight line."""
    one = np.ones(1)
    match scaler:
        case StandardScaler():
            slope, intercept = scaler.scale_, scaler.mean_
        case RobustScaler():
            slope, intercept = scaler.scale_, scaler.center_
        case MaxAbsScaler():
            slope, intercept = scaler.scale_, None
        case MinMaxScaler():
            slope, intercept = 1 / scaler.scale_, -scaler.min_ / scaler.scale_
        case _:
            return None
    slope, intercept = (one if slope is None else slope), (0 * one if intercept is None else intercept)
    return np.asarray(slope, dtype=np.float64), np.asarray(intercept, dtype=np.float64)
