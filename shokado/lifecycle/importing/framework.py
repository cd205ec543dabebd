"""Framework: a fitted model, asked as its own framework answers, for rows as a description has them.

What it says is what every converted file is compared with.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import xgboost
from numpy.typing import NDArray

from runners.artefacts.scores import to_columns
from runners.inputs.rows import Rows
from shokado.lifecycle.importing import boosters, decisions, multilabel
from shokado.lifecycle.importing.composites import compares_digits
from shokado.lifecycle.importing.conversion import ModelDescription, is_composed, trained_names
from shokado.lifecycle.importing.label_rules import own_labels
from shokado.lifecycle.importing.level_texts import as_truths, spelt
from shokado.lifecycle.importing.onnx_models import OnnxModel
from shokado.lifecycle.importing.own_models import own_model
from shokado.lifecycle.importing.probing_rows import parts_of
from shokado.lifecycle.importing.recoding import floors_of, gaps_of
from shokado.lifecycle.importing.text_conversion import vectorizers_of

Scores = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Framework:
    """Rows are packed ones, [N, features]: float64 or float32, a level as its position; or with texts
    among them, of dtype object.
    """

    model: Any
    description: ModelDescription

    def scores(self, rows: Rows) -> Scores:
        """Float64 [N, classes], or [N, 1] where one score tells classes apart that has no counterpart; [N, 1] or
        [N, outputs] for values, [N, labels] for labels.
        """
        return self.scores_as_trained(self.as_trained(rows))

    def scores_as_trained(self, given: Any) -> Scores:
        """The same of rows in the form in which the model takes them."""
        task = self.description.task
        if boosters.is_xgboost(self.model):
            scores = boosters.scores_of(self.model, given)
        elif (own := own_model(self.model)) is not None:
            scores = own.scores(given)
        elif task.is_of_values:
            scores = self.model.predict(given)
        elif task.has_labels:
            scores = multilabel.scores_of(self.model, given)
        elif task.has_probabilities:
            scores = self.model.predict_proba(given)
        else:
            scores = decisions.scores_of(self.model, given)
        return to_columns(task, np.asarray(scores, dtype=np.float64))

    def labels(self, rows: Rows, scores: Scores) -> NDArray[np.int64]:
        """The position of each row's class, [N], or of each of its labels', [N, labels]; where the model gives none, by
        these scores of the rows.
        """
        return own_labels(self.description.task, self.model, self.as_trained(rows), scores)

    def as_trained(self, rows: Rows) -> Any:
        """The rows in the form in which the model was given its training data."""
        model, description = self.model, self.description
        if boosters.is_xgboost(model) and not hasattr(model, "get_booster"):
            return xgboost.DMatrix(rows, feature_names=model.feature_names)
        if (own := own_model(model)) is not None:
            return own.given(rows, description.features)
        known = trained_names(model)
        if not known and description.row_format.text_field is not None:
            return rows[:, 0]
        if not known and not any(feature.levels for feature in description.features):
            return rows
        names = known or description.row_format.feature_names
        frame = pd.DataFrame(rows, columns=list(names))
        if description.has_texts:
            numbers = [feature.name for feature in description.features if feature.type != "text"]
            frame = frame.astype(dict.fromkeys(numbers, description.given))
        gaps = gaps_of(model, names) if self.has_steps else {}
        for feature in description.features:
            if feature.levels:
                texts = spelt(feature, frame[feature.name].to_numpy(), gaps.get(feature.name, np.nan))
                frame[feature.name] = pd.Series(texts, dtype=object)
            elif feature.type == "boolean" and gaps:
                gap = gaps.get(feature.name, np.nan)
                frame[feature.name] = as_truths(frame[feature.name].to_numpy(dtype=np.float64), gap)
        return frame if known else frame.to_numpy(dtype=object)

    @property
    def has_steps(self) -> bool:
        """Whether it is of scikit-learn, and may have transformers."""
        return not boosters.is_xgboost(self.model) and hasattr(self.model, "n_features_in_")

    @cached_property
    def floors(self) -> NDArray[np.float64]:
        """The smallest number of each column that its steps take: [features]; NaN where it has no steps."""
        width = len(self.description.features)
        if isinstance(self.model, OnnxModel):
            return -self.model.largest
        floors = floors_of(self.model, width) if self.has_steps else np.full(width, np.nan)
        whole = [feature.type != "float" for feature in self.description.features]
        return np.where(whole, np.ceil(floors), floors)

    @cached_property
    def ceilings(self) -> NDArray[np.float64]:
        """The largest one: [features]."""
        is_file = isinstance(self.model, OnnxModel)
        return self.model.largest if is_file else np.full(len(self.description.features), np.inf)

    @property
    def has_histogram(self) -> bool:
        """Whether a part is histogram gradient boosting, which compares in float64, and with values of its data."""
        return any(hasattr(part, "_predictors") for part in parts_of(self.model))

    @property
    def compares_doubles(self) -> bool:
        """Whether a part is made of trees that compare in float64: histogram gradient boosting, or LightGBM."""
        own = [own_model(part) for part in parts_of(self.model)]
        return self.has_histogram or any(part is not None and part.compares_doubles for part in own)

    @property
    def tells_doubles_apart(self) -> bool:
        """Whether it may have thresholds between two float32; that is not asked of a model of texts."""
        if any(vectorizers_of(self.model)):
            return False
        is_moved = is_composed(self.model, self.description) and compares_digits(self.model, self.description.features)
        return is_moved or self.compares_doubles
