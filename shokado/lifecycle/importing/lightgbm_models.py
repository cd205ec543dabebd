"""LightGBM: what a Booster, or one of its scikit-learn estimators, takes and answers, and what its files would lose."""

import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from runners.artefacts.card import ABOVE_HALF, Task
from runners.inputs.schema import Feature
from shokado.lifecycle.errors import UnsupportedModel
from shokado.lifecycle.importing.level_texts import spelt
from shokado.lifecycle.importing.lightgbm_trees import ModelText, is_known
from shokado.lifecycle.importing.tree_ensembles import Ensemble

_WITH_PROBABILITIES = ("binary", "cross_entropy", "multiclass", "multiclassova")
_UNNAMED = re.compile(r"Column_\d+")


class LightGbmModel:
    """An `OwnModel`."""

    compares_doubles = True
    gives_label_lists = False
    positive_from = ABOVE_HALF
    outputs = ()
    """It takes the `argmax` of its probabilities."""

    def __init__(self, model: Any) -> None:
        self._model = model
        inner = getattr(model, "best_estimator_", model)
        self._inner = inner
        self._booster = inner.booster_ if hasattr(inner, "booster_") else inner

    @cached_property
    def text(self) -> ModelText:
        """What the Booster saves: the rounds up to the best one, where there is one, as its `predict` takes them."""
        return ModelText.of(self._booster.model_to_string())

    @property
    def _is_classifier(self) -> bool:
        return hasattr(self._model, "predict_proba")

    @property
    def _is_booster(self) -> bool:
        return self._inner is self._booster

    @property
    def task(self) -> Task:
        """A Booster's probability is one; a regressor's is a value, whatever its objective."""
        if not (self._is_classifier or (self._is_booster and self.text.objective in _WITH_PROBABILITIES)):
            return Task.REGRESSION
        if self._is_booster and self.text.objective == "cross_entropy":
            return Task.REGRESSION
        return Task.BINARY if len(self._classes) == 2 else Task.MULTICLASS

    @property
    def _classes(self) -> Sequence[Any]:
        own: Sequence[Any] | None = getattr(self._model, "classes_", None)
        return range(max(2, self.text.margins)) if own is None else own

    @property
    def classes(self) -> Sequence[Any]:
        return () if self.task is Task.REGRESSION else self._classes

    @property
    def width(self) -> int:
        return int(self._booster.num_feature())

    @property
    def names(self) -> tuple[str, ...]:
        names = tuple(map(str, self._booster.feature_name()))
        return () if all(_UNNAMED.fullmatch(name) for name in names) else names

    def why_not(self) -> str | None:
        objective, kind = self.text.objective, type(self._inner).__name__
        if self.text.is_linear and self.text.has_many_weights:
            return "its leaves have lines in them, of too many columns: train it without linear_tree"
        if not is_known(objective):
            return f"it has the objective {objective}, which is not known here"
        if self._is_classifier and (objective not in _WITH_PROBABILITIES or callable(self._inner.objective)):
            return (
                f"it is an {kind} with the objective {objective}, whose scores are no probabilities: train it with "
                "binary or multiclass, or log its booster_, whose answer is a value"
            )
        if self.text.margins > 1 and (self.task is Task.REGRESSION or self.text.margins < 3):
            return (
                f"it has the objective {objective} for {self.text.margins} classes: train a classifier, of two classes "
                "with binary"
            )
        if not self._is_booster and self._inner.get_params().get("pred_early_stop"):
            return "it ends a row's prediction early (pred_early_stop), by how sure it is"
        if not self.text.ensemble({}).has_splits:
            return "it has trees of a single leaf only, so that it answers the same for every row: look at its training"
        return None

    def features(self, features: Sequence[Feature], example: Any) -> tuple[Feature, ...]:  # noqa: ARG002
        found = []
        categories = self._categories([feature.type == "text" for feature in features])
        for at, feature in enumerate(features):
            changes: dict[str, Any] = {}
            if at in categories or at in self.text.with_gaps:
                changes["nullable"] = True
            if feature.type == "text":
                if at not in categories:
                    raise UnsupportedModel(f"{feature.name} is a text, and no category of the model's training.")
                changes |= {"type": "category", "levels": tuple(categories[at]), "other": True}
            found.append(feature.model_copy(update=changes))
        return tuple(found)

    def _categories(self, are_texts: Sequence[bool]) -> dict[int, Sequence[Any]]:
        """The levels of the columns that were categories of pandas, of which it knows the order alone."""
        known = self._booster.pandas_categorical or []
        texts = {at for at, is_text in enumerate(are_texts) if is_text}
        for columns in (sorted(texts | self.text.coded), sorted(texts)):
            fits = [
                all(isinstance(level, str) == (at in texts) for level in levels)
                for at, levels in zip(columns, known, strict=False)
            ]
            if len(columns) == len(known) and all(fits):
                return dict(zip(columns, known, strict=True))
        if not known:
            return {}
        raise UnsupportedModel(
            f"It was trained with {len(known)} columns of pandas' categories, and its signature does not tell which: "
            "log it with signature=mlflow.models.infer_signature(rows), with these columns as categories, not ordered."
        )

    def given(self, rows: NDArray[Any], features: Sequence[Feature]) -> Any:
        """A frame where it knows names; a category is made one again by its texts, of which any may be unknown."""
        if not self.names and not any(feature.levels for feature in features):
            return rows
        frame = pd.DataFrame(rows, columns=[feature.name for feature in features])
        for at, levels in self._categories([bool(feature.levels) for feature in features]).items():
            feature, column = features[at], frame.iloc[:, at]
            if feature.levels:
                column = pd.Series(spelt(feature, rows[:, at]), dtype=object)
            elif all(isinstance(level, bool) for level in levels):
                column = column.map({0.0: False, 1.0: True})
            frame[feature.name] = column.astype("category")
        return frame

    def scores(self, given: Any) -> NDArray[Any]:
        return np.asarray(self._model.predict_proba(given) if self._is_classifier else self._model.predict(given))

    def ensemble(self, features: Sequence[Feature]) -> Ensemble:
        if not features and self._booster.pandas_categorical:
            raise UnsupportedModel(
                "Its LightGBM has categories of pandas, and stands within a model of scikit-learn: encode them at the "
                "beginning of a pipeline, or log LightGBM alone."
            )
        if not features and self.text.is_linear:
            raise UnsupportedModel(
                "Its LightGBM has leaves with lines in them (linear_tree), and stands within a model of scikit-learn: "
                "log LightGBM alone, or train it without linear_tree."
            )
        return self.text.ensemble(self._categories([bool(feature.levels) for feature in features]))
