"""LightGBM and CatBoost behind one interface: what a model is, what it takes, what it answers, and its trees.

A model as MLflow loads it goes in, bare or in a search. A pipeline, a vote or a calibration around one is
scikit-learn's: see `boosted_steps`.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

from runners.artefacts.card import Task
from runners.inputs.schema import Feature
from shokado.lifecycle.importing.tree_ensembles import Ensemble


class OwnModel(Protocol):
    """A model by its library's own account. All may raise `UnsupportedModel`."""

    @property
    def task(self) -> Task: ...

    @property
    def classes(self) -> Sequence[Any]:
        """The labels in the order of the probabilities; empty for a value."""
        ...

    @property
    def outputs(self) -> Sequence[str]:
        """What each of several values, or labels, a row is called; empty where there is one."""
        ...

    @property
    def width(self) -> int:
        """How many columns it takes."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """Their names as it was trained with them; empty: bare arrays."""
        ...

    @property
    def positive_from(self) -> float:
        """See `Card`."""
        ...

    @property
    def compares_doubles(self) -> bool:
        """Whether it takes float64 as it comes, where others make float32 of it."""
        ...

    @property
    def gives_label_lists(self) -> bool:
        """Whether its `predict` gives each row's label as a list of one."""
        ...

    def why_not(self) -> str | None:
        """What its files would lose, or why its scores say nothing; None if nothing."""
        ...

    def features(self, features: Sequence[Feature], example: Any) -> tuple[Feature, ...]:
        """The features of the signature, in the order of training, with what they may be besides: levels, gaps."""
        ...

    def given(self, rows: NDArray[Any], features: Sequence[Feature]) -> Any:
        """Packed rows [N, features] in the form in which it takes them."""
        ...

    def scores(self, given: Any) -> NDArray[Any]:
        """Its own answer: [N, classes], [N] of values or of the probability of the second class, or of several values
        or labels [N, outputs].
        """
        ...

    def ensemble(self, features: Sequence[Feature]) -> Ensemble:
        """Its trees, for packed rows of these features; of none, for columns of numbers alone."""
        ...


def own_model(model: Any) -> OwnModel | None:
    """None for any other model."""
    match _package_of(getattr(model, "best_estimator_", model)):
        case "lightgbm":
            from shokado.lifecycle.importing.lightgbm_models import LightGbmModel

            return LightGbmModel(model)
        case "catboost":
            from shokado.lifecycle.importing.catboost_models import CatBoostModel

            return CatBoostModel(model)
    return None


def _package_of(model: Any) -> str:
    return type(model).__module__.partition(".")[0]
