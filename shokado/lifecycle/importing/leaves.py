"""Leaves: the fitted models that a model is made of, each with the steps that its rows go through before it.

    search, threshold, frozen --(the model within)--.
    pipeline --(its last step, behind the others)---+--> leaves, in the order in which they are asked
    vote, stack, calibration, changed target -------'

What reads the scores of others, as the last model of a stack does, is none: it is given no columns.
"""

from dataclasses import dataclass
from typing import Any

from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import StackingClassifier, StackingRegressor, VotingClassifier, VotingRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import FixedThresholdClassifier, TunedThresholdClassifierCV
from sklearn.pipeline import Pipeline

VOTES = (VotingClassifier, VotingRegressor)
STACKS = (StackingClassifier, StackingRegressor)
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
    if isinstance(model, Pipeline):
        return leaves_of(model[-1], (*steps, *steps_of(model)))
    members = members_of(model)
    return [leaf for member in members for leaf in leaves_of(member, steps)] if members else [Leaf(steps, model)]


def steps_of(pipeline: Pipeline) -> list[Any]:
    """All steps but the last."""
    return [step for _, step in pipeline.steps[:-1]]


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
    return [model.regressor_] if isinstance(model, TransformedTargetRegressor) else []
