"""Composites: votes, stacks, calibrations and changed targets, as one ONNX graph of the graphs of their leaves.

    leaf of trees     --(folded_trees)--------.
    other leaf        --(recoding, skl2onnx)--+--> scores --(vote, stack, calibration, target, labels)--> scores
    leaf of XGBoost   --(folded_trees)--------'

Every leaf is given the columns themselves, and what stands before it is put into it; models of a chain are given
answers beside them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import ModelProto
from sklearn.base import is_classifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import StackingClassifier
from sklearn.feature_selection import RFE
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from sklearn.svm import SVC, NuSVC

from runners.inputs.schema import Feature
from shokado.lifecycle.errors import UnsupportedModel
from shokado.lifecycle.importing import booster_graphs, boosters, decisions, multilabel
from shokado.lifecycle.importing.built_models import built, is_built
from shokado.lifecycle.importing.calibrations import calibrated_score
from shokado.lifecycle.importing.dense_models import dense
from shokado.lifecycle.importing.float32_bounds import Digits
from shokado.lifecycle.importing.folded_trees import folded_margins
from shokado.lifecycle.importing.fronts import ENCODERS, Front, State
from shokado.lifecycle.importing.graph_builder import Builder
from shokado.lifecycle.importing.graphs import INPUT
from shokado.lifecycle.importing.label_rules import positive_from
from shokado.lifecycle.importing.leaves import (
    CHAINS,
    STACKS,
    VOTES,
    Leaf,
    chain_of,
    is_constant,
    is_of_each_label,
    leaves_of,
    members_of,
    within,
)
from shokado.lifecycle.importing.links import Link
from shokado.lifecycle.importing.probing_rows import sentinels_of
from shokado.lifecycle.importing.recoding import Recoding, gaps_of, has_encoders, steps_before
from shokado.lifecycle.importing.scaled_trees import scaler_of
from shokado.lifecycle.importing.stand_ins import is_replaced
from shokado.lifecycle.importing.targets import taken_back
from shokado.lifecycle.importing.tree_nodes import ensemble_of, linked

Plain = Callable[[Any, int, bool], ModelProto]
"""skl2onnx's conversion of a model or transformer of so many columns; or of its decision function."""
_TREES = ("sklearn.tree", "sklearn.ensemble", "lightgbm", "catboost")
_MADE_HERE = (CalibratedClassifierCV, RFE, TransformedTargetRegressor)
_DECISION, _PROBABILITIES = "decision_function", "predict_proba"


def is_plain(model: Any, features: Sequence[Feature], *, is_wide: bool = False) -> bool:
    """Whether skl2onnx converts a model of scikit-learn exactly as it is.

    `is_wide`: for rows of float64, in which it has scalers and trees exactly.
    """
    leaves = leaves_of(model)
    if is_of_several(model):
        return False
    if any(feature.levels for feature in features) or has_encoders(model, len(features)):
        return False
    if any(boosters.is_xgboost(leaf.model) or any(map(_is_changed, leaf.steps)) for leaf in leaves):
        return False
    if any(
        isinstance(part, CalibratedClassifierCV | TransformedTargetRegressor | RFE) for part in _combinations(model)
    ):
        return False
    if any(is_built(leaf.model) for leaf in leaves):
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


def is_of_several(model: Any) -> bool:
    """Whether its labels are several a row, or it is a chain: of these skl2onnx makes several outputs, or none."""
    return any(isinstance(part, CHAINS) or multilabel.has_labels(part) for part in _combinations(model))


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
    inner = inner if (chain := chain_of(model)) is None else [chain.model]
    return [model, *(part for one in inner for part in _combinations(one))]


def _is_changed(step: Any) -> bool:
    """Whether a step, or one within it, is none that skl2onnx converts as scikit-learn computes it."""
    parts = [part for _, part in getattr(step, "steps", None) or getattr(step, "transformer_list", None) or ()]
    parts += [part for _, part, _ in getattr(step, "transformers_", ())]
    return type(step) in ENCODERS or is_replaced(step) or any(_is_changed(part) for part in parts)


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
    model: Any,
    features: Sequence[Feature],
    digits: Digits,
    plain: Plain,
    whole: Callable[[Any], ModelProto],
    terms: int = 0,
) -> ModelProto:
    """The graph of a fitted model of scikit-learn. Raises `UnsupportedModel`.

    Args:
        plain: skl2onnx's conversion of a part, for rows of float32.
        whole: that of a whole model, for rows as they come.
        terms: how many columns, the last ones, are made of texts.
    """
    gaps = gaps_of(model, [feature.name for feature in features])
    recoding = Recoding(features, gaps, digits, terms)
    composer = _Composer(Builder(len(features)), plain)
    alone = _alone(model)
    if alone is not None and (recoded := composer.alone(alone, _Given(INPUT, recoding))) is not None:
        return whole(recoded)
    return composer.builder.model(composer.scores(model, (), _Given(INPUT, recoding)))


def _alone(model: Any) -> Leaf | None:
    """The one leaf of a model that is no combination, and has one output."""
    last = _last(model)
    return None if members_of(last.model) or is_of_several(last.model) else last


def _last(model: Any) -> Leaf:
    """What stands at the end of pipelines and searches, which may be a combination, behind all steps."""
    steps: tuple[Any, ...] = ()
    while True:
        if (inner := within(model)) is not None:
            model = inner
        elif (chain := chain_of(model)) is not None:
            steps, model = (*steps, *chain.steps), chain.model
        else:
            return Leaf(steps, model)


def _made(source: str, width: int) -> _Given:
    """Numbers that were made of columns, as ONNX has them: float32."""
    features = [Feature(name=f"score {at}") for at in range(width)]
    recoding = Recoding(features, {}, Digits(*np.zeros((2, width), dtype=bool)))
    return _Given(source, recoding, is_columns=False)


class _Composer:
    def __init__(self, builder: Builder, plain: Plain) -> None:
        self.builder, self._plain = builder, plain

    def scores(self, model: Any, steps: tuple[Any, ...], given: _Given, method: str = _PROBABILITIES) -> str:
        """Probabilities [N, classes], a decision [N, 1] or [N, classes], or for regression a value [N, 1]; of several
        labels the probability of the second class of each, [N, labels], and of several values those, [N, outputs].
        """
        if (inner := within(model)) is not None:
            return self.scores(inner, steps, given, method)
        if (chain := chain_of(model)) is not None:
            return self.scores(chain.model, (*steps, *chain.steps), given, method)
        if isinstance(model, VOTES):
            return self._vote(model, steps, given)
        if isinstance(model, STACKS):
            return self._stack(model, steps, given, method)
        if isinstance(model, CalibratedClassifierCV):
            return self._calibrated(model, steps, given)
        if isinstance(model, TransformedTargetRegressor):
            return self._target(model, steps, given)
        if is_of_each_label(model):
            return self._labels(model, steps, given)
        if isinstance(model, CHAINS):
            return self._chain(model, steps, given)
        return self._leaf(Leaf(steps, model), given, method)

    def alone(self, leaf: Leaf, given: _Given) -> Any | None:
        """A leaf as skl2onnx takes it; None of one that is converted here."""
        if self._front(leaf, given) is not None or boosters.is_xgboost(leaf.model):
            return None
        return self._recoded(_as_built(leaf), given)

    def _leaf(self, leaf: Leaf, given: _Given, method: str) -> str:
        front, ensemble = self._front(leaf, given), ensemble_of(leaf.model)
        if not given.is_columns and (ensemble is not None or type(leaf.model).__module__.startswith(_TREES)):
            raise UnsupportedModel(
                f"A {type(leaf.model).__name__} reads the scores of other models, or what steps made of the columns, "
                "which ONNX has in float32, and compares that with values of its training: take a linear model in its "
                "place."
            )
        if front is not None and ensemble is not None:
            margin = folded_margins(self.builder, ensemble, front, given.recoding.digits, given.source)
            if method == _DECISION:
                return margin
            is_binary = is_classifier(leaf.model) and len(leaf.model.classes_) == 2 and len(ensemble.base) == 1
            return linked(self.builder, ensemble, margin, is_binary=is_binary)
        if boosters.is_xgboost(leaf.model):
            return self._booster(leaf, given)
        is_decision = method == _DECISION
        if ensemble is not None and multilabel.has_labels(leaf.model):
            self._refuse(leaf, given)
        taken = _as_built(leaf, is_decision=is_decision)
        graph = self._plain(self._recoded(taken, given), given.width, is_decision and taken is leaf)
        found = self.builder.include(graph, given.source)
        if is_decision and len(leaf.model.classes_) == 2:
            return self.builder.column(found, -1)
        if isinstance(leaf.model, MLPClassifier) and multilabel.has_labels(leaf.model):
            return self.builder.last_columns(found, leaf.model.n_outputs_)
        return found

    def _front(self, leaf: Leaf, given: _Given) -> Front | None:
        """What stands before trees, where it looks at each column for itself; None before anything else."""
        ensemble = ensemble_of(leaf.model)
        # What becomes of thousands of terms is not asked of the steps one by one.
        if ensemble is None or not given.is_columns or given.recoding.terms:
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
        if is_own or ((is_mixed or 0 < given.recoding.terms < given.width) and not is_exact):
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
        return self.scores(model.final_estimator_, (), _made(joined, width), method)

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
            return self.builder.with_counterpart(calibrated_score(self.builder, calibrated.calibrators[0], positive))
        found = [
            calibrated_score(self.builder, calibrator, self.builder.column(scores, at))
            for at, calibrator in enumerate(calibrated.calibrators)
        ]
        joined = self.builder.add("Concat", found, axis=1)
        axes = self.builder.constant(np.array([1]))
        total = self.builder.add("ReduceSum", [joined, axes], keepdims=1)
        is_nothing = self.builder.add("Equal", [total, self._number(0)])
        shares = self.builder.add("Div", [joined, total])
        return self.builder.add("Where", [is_nothing, self._number(1 / classes), shares])

    def _labels(self, model: Any, steps: tuple[Any, ...], given: _Given) -> str:
        _, second = multilabel.classes_of(model)
        found = [self._label(member, second, steps, given) for member in model.estimators_]
        return self.builder.add("Concat", found, axis=1)

    def _label(self, member: Any, second: Any, steps: tuple[Any, ...], given: _Given) -> str:
        """The probability of the second class of one label: [N, 1]."""
        if is_constant(member):
            return self.builder.filled(given.source, float(np.ravel(member.y_)[0]))
        if len(member.classes_) == 1:
            return self.builder.filled(given.source, float(member.classes_[0] == second))
        return self.builder.column(self.scores(member, steps, given), 1)

    def _chain(self, model: Any, steps: tuple[Any, ...], given: _Given) -> str:
        """Each model is given the columns, and behind them what those before it answered."""
        if steps:
            width = given.width
            source = self.builder.include(self._plain(_chained(given.recoding.of(steps)), width, False), given.source)
            given = _made(source, model.n_features_in_)
        found: list[str] = []
        passed: list[str] = []
        for member in model.estimators_:
            inner = self._with_answers(given, passed, are_labels=getattr(model, "chain_method_", "") == "predict")
            scores = self.scores(member, (), inner)
            found.append(self.builder.column(scores, 1) if is_classifier(model) else scores)
            passed.append(self._passed_on(model, member, found[-1], inner) if is_classifier(model) else scores)
        return self.builder.add("Concat", [found[at] for at in np.argsort(model.order_)], axis=1)

    def _with_answers(self, given: _Given, answers: Sequence[str], *, are_labels: bool) -> _Given:
        """The columns with answers behind them, of which labels are whole numbers."""
        if not answers:
            return given
        joined = self.builder.add("Concat", [given.source, *answers], axis=1)
        features = [*given.recoding.features, *(Feature(name=f"answer {at}") for at in range(len(answers)))]
        digits = given.recoding.digits
        exact = np.append(digits.exact, [are_labels] * len(answers))
        decimal = np.append(digits.decimal, [False] * len(answers))
        recoding = Recoding(features, given.recoding.gaps, Digits(exact, decimal, digits.given))
        return _Given(joined, recoding, given.is_columns and are_labels)

    def _passed_on(self, model: Any, member: Any, probability: str, given: _Given) -> str:
        """What the models behind one of a chain of classifiers are told of it: [N, 1]."""
        if len(member.classes_) != 2:
            raise UnsupportedModel(f"A label of its {type(model).__name__} is the same in all rows: leave it out.")
        match model.chain_method_:
            case "predict":
                is_second = self.builder.add("GreaterOrEqual", [probability, self._number(positive_from(member))])
                labels = [self._number(float(label)) for label in member.classes_]
                return self.builder.add("Where", [is_second, labels[1], labels[0]])
            case "predict_proba":
                return probability
            case "decision_function":
                return self.scores(member, (), given, _DECISION)
        raise UnsupportedModel(
            f"Its {type(model).__name__} has chain_method={model.chain_method_!r}, which has no conversion: take "
            "'predict', 'predict_proba' or 'decision_function'."
        )

    def _target(self, model: TransformedTargetRegressor, steps: tuple[Any, ...], given: _Given) -> str:
        return taken_back(self.builder, model.transformer_, self.scores(model.regressor_, steps, given))

    def _number(self, value: float) -> str:
        return self.builder.constant(np.array(value, dtype=np.float32))


def _as_built(leaf: Leaf, *, is_decision: bool = False) -> Leaf:
    """The leaf, with what stands for its model where skl2onnx has it not, or not right."""
    if is_decision and isinstance(leaf.model, SVC | NuSVC):
        return Leaf(leaf.steps, decisions.vectors_of(leaf.model))
    return Leaf(leaf.steps, built(dense(leaf.model), is_decision=is_decision)) if is_built(leaf.model) else leaf


def _chained(steps: Sequence[Any]) -> Any:
    return Pipeline([(f"step{slot}", step) for slot, step in enumerate(steps)])
