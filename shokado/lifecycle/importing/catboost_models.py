"""CatBoost: what a model takes and answers, and what its files would lose."""

import json
import tempfile
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from runners.artefacts.card import ABOVE_HALF, Task
from runners.inputs.schema import Feature
from shokado.lifecycle.errors import UnsupportedModel
from shokado.lifecycle.importing.catboost_counts import CategoryCount, counts_of, key_of
from shokado.lifecycle.importing.catboost_trees import COUNT, NUMBER, ONE_HOT, ensemble_of, margins_of, splits_of
from shokado.lifecycle.importing.level_texts import spelt
from shokado.lifecycle.importing.links import Link
from shokado.lifecycle.importing.tree_ensembles import Ensemble

_CLASSES = {
    "CrossEntropy": Link.SIGMOID,
    "Logloss": Link.SIGMOID,
    "MultiClass": Link.SOFTMAX,
    "MultiClassOneVsAll": Link.SIGMOID,
    "MultiCrossEntropy": Link.SIGMOID,
    "MultiLogloss": Link.SIGMOID,
}
_OF_LABELS = ("MultiCrossEntropy", "MultiLogloss")
_WITH_EXP = ("Poisson", "Tweedie")
_WHOLE = range(-1000, 100_000)
"""The whole numbers that a category may be."""


class CatBoostModel:
    """An `OwnModel`."""

    compares_doubles = False

    def __init__(self, model: Any) -> None:
        self._model = model
        self._inner = getattr(model, "best_estimator_", model)

    @cached_property
    def content(self) -> dict[str, Any]:
        """Its own account of itself, without what it does not know: the texts of its categories."""
        return self._saved()

    def _saved(self, **arguments: Any) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.json"
            self._inner.save_model(str(path), format="json", **arguments)
            found: dict[str, Any] = json.loads(path.read_bytes())
        return found

    @cached_property
    def _loss_function(self) -> str:
        """What it was trained for, with its parameters."""
        return str(self._inner.get_all_params().get("loss_function", "RMSE"))

    @property
    def _loss(self) -> str:
        """The same without parameters."""
        return self._loss_function.partition(":")[0]

    @property
    def _is_classifier(self) -> bool:
        return hasattr(self._model, "predict_proba")

    @property
    def task(self) -> Task:
        if not self._is_classifier:
            return Task.MULTIOUTPUT if self.outputs else Task.REGRESSION
        if self._loss in _OF_LABELS:
            return Task.MULTILABEL
        return Task.BINARY if len(self._model.classes_) == 2 else Task.MULTICLASS

    @property
    def classes(self) -> Sequence[Any]:
        if self.task is Task.MULTILABEL:
            return (0, 1)
        found: Sequence[Any] = self._model.classes_ if self._is_classifier else ()
        return found

    @property
    def outputs(self) -> Sequence[str]:
        count = margins_of(self.content)
        if count == 1 or (self._is_classifier and self._loss not in _OF_LABELS):
            return ()
        if self._link is Link.MEAN_AND_VARIANCE:
            return ("mean", "variance")
        quantiles = _parameter(self._loss_function, "alpha").split(",") if self._loss == "MultiQuantile" else []
        if len(quantiles) == count:
            return tuple(f"quantile_{quantile}" for quantile in quantiles)
        return tuple(f"output_{at}" for at in range(count))

    @property
    def gives_label_lists(self) -> bool:
        return self.task is Task.MULTICLASS

    @property
    def positive_from(self) -> float:
        """A probability must be above its threshold."""
        threshold = (
            self._inner.get_probability_threshold() if hasattr(self._inner, "get_probability_threshold") else 0.5
        )
        if threshold == 0.5:
            return ABOVE_HALF
        near = np.float32(threshold)
        return float(near if near > threshold else np.nextafter(near, np.float32(np.inf)))

    @property
    def width(self) -> int:
        return len(self._inner.feature_names_)

    @property
    def names(self) -> tuple[str, ...]:
        names = tuple(map(str, self._inner.feature_names_))
        return () if names == tuple(map(str, range(len(names)))) else names

    def why_not(self) -> str | None:
        # Of these CatBoost gives no account of itself.
        has_texts = bool(self._inner.get_text_feature_indices() or self._inner.get_embedding_feature_indices())
        kinds = set() if has_texts else {split["split_type"] for split in splits_of(self.content)}
        if has_texts or kinds - {NUMBER, ONE_HOT, COUNT}:
            return (
                "it takes texts or embeddings, which no graph here can say: encode them at the beginning of a pipeline"
            )
        if any(count is None for count in self._counts):
            return (
                "it has counted categories of several columns at once in its training (CTR), which no graph here can "
                "say: train it with max_ctr_complexity=1, or with one_hot_max_size=255, which takes up to so many "
                "levels of a column as they are"
            )
        if not kinds:
            return "it has no splits, so that it answers the same for every row: look at its training"
        margins = margins_of(self.content)
        if self._is_classifier and self._loss not in _CLASSES:
            return f"it is a classifier with the loss {self._loss}: train it with Logloss or MultiClass"
        if margins > 1 and self._is_classifier and margins != len(self.outputs or self.classes):
            return f"it gives {margins} outputs a row for {len(self.classes)} classes"
        return None

    @cached_property
    def _counts(self) -> list[CategoryCount | None]:
        """What its splits ask for of counts."""
        known = counts_of(self.content)
        return [known[split["split_index"]][0] for split in splits_of(self.content) if split["split_type"] == COUNT]

    @property
    def _link(self) -> Link:
        if self._is_classifier:
            return _CLASSES[self._loss]
        if type(self._inner).__name__ != "CatBoostRegressor":
            return Link.IDENTITY
        if self._loss == "RMSEWithUncertainty":
            return Link.MEAN_AND_VARIANCE
        return Link.EXP if self._loss in _WITH_EXP else Link.IDENTITY

    @property
    def _categories(self) -> dict[int, int]:
        """By its position among all columns, that of each category among the categories."""
        found = self.content["features_info"].get("categorical_features") or ()
        return {item["flat_feature_index"]: item["feature_index"] for item in found}

    def features(self, features: Sequence[Feature], example: Any) -> tuple[Feature, ...]:
        numbers = self.content["features_info"].get("float_features") or ()
        with_gaps = {item["flat_feature_index"] for item in numbers if item["has_nans"]}
        found = []
        for at, feature in enumerate(features):
            changes: dict[str, Any] = {"nullable": True} if at in with_gaps else {}
            if at in self._categories:  # which CatBoost itself refuses to be without
                changes["nullable"] = False
            if feature.type == "text":
                levels = _texts(example, feature.name)
                if not levels:
                    raise UnsupportedModel(
                        f"Log it with an input example: nothing else tells the texts of {feature.name}."
                    )
                changes |= {"type": "category", "levels": levels, "other": True}
            typed = feature.model_copy(update=changes)
            if at in self._categories:
                self._numbers(at, typed)
            elif feature.type == "text":
                raise UnsupportedModel(f"{feature.name} is a text, and no category of the model's training.")
            found.append(typed)
        return tuple(found)

    def _numbers(self, at: int, feature: Feature) -> dict[int, float]:
        """What packed rows have for the categories of a column that splits ask for, by what splits have for them.

        Raises `UnsupportedModel` where nobody knows which text or number one of them is: the model has a number made of
        it alone.
        """
        if feature.type not in ("category", "integer"):
            raise UnsupportedModel(f"{feature.name} is one of its categories: log it as texts, or as whole numbers.")
        numbers = dict(enumerate(feature.levels)) if feature.levels else {number: str(number) for number in _WHOLE}
        hashes = self._hashes(list(numbers.values()))
        known = {hashes[text]: float(number) for number, text in numbers.items() if text in hashes}
        column = self._categories[at]
        wanted = {
            split["value"]
            for split in splits_of(self.content)
            if split["split_type"] == ONE_HOT and split["cat_feature_index"] == column
        }
        keys = {key_of(value): value for value in known}
        counted = {key for count in self._counts if count and count.column == column for key in count.table}
        if lacking := len(wanted - set(known)) + len(counted - set(keys)):
            raise UnsupportedModel(
                f"Of {len(wanted | counted)} categories of {feature.name} that it asks for, {lacking} are in no row of "
                "its input example, and it does not keep them as texts: log it with an input example that holds each "
                "of them."
            )
        return {value: known[value] for value in wanted | {keys[key] for key in counted}}

    def _hashes(self, texts: list[str]) -> dict[str, int]:
        """What splits have for each text, by CatBoost's own word."""
        if not texts:
            return {}
        from catboost import Pool

        first = min(self._categories)
        rows = {
            name: texts if at == first else (["" for _ in texts] if at in self._categories else np.zeros(len(texts)))
            for at, name in enumerate(self._inner.feature_names_)
        }
        pool = Pool(pd.DataFrame(rows), cat_features=sorted(self._categories))
        found = self._saved(pool=pool)["features_info"]["cat_features_hash"]
        return {str(item["value"]): int(np.uint32(item["hash"]).astype(np.int32)) for item in found}

    def given(self, rows: NDArray[Any], features: Sequence[Feature]) -> Any:
        """A frame where it knows names or categories, which are texts or whole numbers there."""
        categories = self._inner.get_cat_feature_indices()
        if not self.names and not categories:
            return rows
        frame = pd.DataFrame(rows, columns=self._inner.feature_names_)
        for at in categories:
            name = self._inner.feature_names_[at]
            if features[at].levels:
                frame[name] = spelt(features[at], rows[:, at])
            else:
                # One that is not whole is no category, as another whole one is not.
                whole = rows[:, at] == np.rint(rows[:, at])
                frame[name] = np.where(whole, rows[:, at], _WHOLE.start - 1).astype(np.int64)
        return frame

    def scores(self, given: Any) -> NDArray[Any]:
        return np.asarray(self._model.predict_proba(given) if self._is_classifier else self._model.predict(given))

    def ensemble(self, features: Sequence[Feature]) -> Ensemble:
        if not features and self._categories:
            raise UnsupportedModel(
                "Its CatBoost has categories, and stands within a model of scikit-learn: encode them at the beginning "
                "of a pipeline, or log CatBoost alone."
            )
        matching = {
            (column, value): number
            for at, column in self._categories.items()
            for value, number in self._numbers(at, features[at]).items()
        }
        return ensemble_of(self.content, self._link, matching)


def _parameter(loss: str, name: str) -> str:
    """A parameter of a loss, such as that of `MultiQuantile:alpha=0.1,0.9`; empty where there is none."""
    given = dict(pair.partition("=")[::2] for pair in loss.partition(":")[2].split(";"))
    return given.get(name, "")


def _texts(example: Any, name: str) -> tuple[str, ...]:
    """The texts that a column of an example has."""
    if not isinstance(example, pd.DataFrame) or name not in example.columns:
        return ()
    return tuple(sorted({text for text in example[name] if isinstance(text, str)}))
