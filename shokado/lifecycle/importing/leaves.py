"""Leaves: the fitted models that a model is made of, each with the steps that its rows go through before it.

    search, threshold, frozen --(the model within)--.
    pipeline --(its last step, behind the others)---+--> leaves, in the order in which they are asked
    elimination --(its model, behind its choice)----+
    vote, stack, calibration, changed target -------+
    a model for each of several labels -------------'

What reads the answers of others, as the last model of a stack does, is none: it is given no columns. A chain is a leaf,
as its models are given the answers of those before them.
"""

from dataclasses import dataclass
from typing import Any

from sklearn.base import is_classifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import StackingClassifier, StackingRegressor, VotingClassifier, VotingRegressor
from sklearn.feature_selection import RFE
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import FixedThresholdClassifier, TunedThresholdClassifierCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier, RegressorChain
from sklearn.pipeline import Pipeline

VOTES = (VotingClassifier, VotingRegressor)
STACKS = (StackingClassifier, StackingRegressor)
CHAINS = (ClassifierChain, RegressorChain)
WITH_THRESHOLD = (FixedThresholdClassifier, TunedThresholdClassifierCV)


@dataclass(frozen=True, eq=False)
class Leaf:
    """A model that is no combination of others, and the transformers before it."""

    steps: tuple[Any, ...]
    model: Any


def leaves_of(model: Any, steps: tuple[Any, ...] = ()) -> list[Leaf]:
    """The leaves of a fitted model that is given what some steps make of the columns."""
    if (inner := within(model)) is not None:
        return leaves_of(inner, steps)
    if (chain := chain_of(model)) is not None:
        return leaves_of(chain.model, (*steps, *chain.steps))
    members = members_of(model)
    return [leaf for member in members for leaf in leaves_of(member, steps)] if members else [Leaf(steps, model)]


def chain_of(model: Any) -> Leaf | None:
    """What a model puts before another one that answers for it: a pipeline, or one that chose columns by its model."""
    if isinstance(model, Pipeline):
        return Leaf(tuple(step for _, step in model.steps[:-1]), model[-1])
    return Leaf((model,), model.estimator_) if isinstance(model, RFE) else None


def within(model: Any) -> Any | None:
    """The one model whose scores another one gives as its own: that of a search, or beneath a threshold."""
    if hasattr(model, "best_estimator_"):
        return model.best_estimator_
    if isinstance(model, WITH_THRESHOLD):
        return getattr(model, "estimator_", model.estimator)
    return model.estimator if isinstance(model, FrozenEstimator) else None


def members_of(model: Any) -> list[Any]:
    """The models that a combination asks of each row; none of a leaf."""
    if isinstance(model, VOTES + STACKS):
        return [member for member in model.estimators_ if not isinstance(member, str)]
    if isinstance(model, CalibratedClassifierCV):
        return [calibrated.estimator for calibrated in model.calibrated_classifiers_]
    if is_of_each_label(model):
        return [member for member in model.estimators_ if not is_constant(member)]
    return [model.regressor_] if isinstance(model, TransformedTargetRegressor) else []


def is_of_each_label(model: Any) -> bool:
    """Whether it has a classifier for each of several labels a row."""
    return isinstance(model, MultiOutputClassifier) or (isinstance(model, OneVsRestClassifier) and model.multilabel_)


def is_constant(member: Any) -> bool:
    """Whether it is what OneVsRestClassifier has for a label that all rows of its training had, or none."""
    return not is_classifier(member)
