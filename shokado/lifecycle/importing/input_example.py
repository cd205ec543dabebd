"""The input example that a model was logged with, as rows of its description."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from runners.inputs.rows import Rows
from shokado.lifecycle.errors import VerificationFailed
from shokado.lifecycle.importing.conversion import ModelDescription
from shokado.lifecycle.importing.framework import Framework
from shokado.lifecycle.importing.recoding import gaps_of


@dataclass(frozen=True, eq=False)
class InputExample:
    """What MLflow keeps as the example of a model: a frame, an array, a text, or None."""

    logged: Any
    description: ModelDescription

    @property
    def rows(self) -> Rows:
        """Its rows that a server takes, float64 [N, features]; of no rows where it does not fit."""
        names = [feature.name for feature in self.description.features]
        nothing = np.empty((0, len(names)))
        columns = getattr(self.logged, "columns", None)
        logged = self.logged[names] if columns is not None and set(names) <= set(columns) else self.logged
        try:
            rows = np.atleast_2d(np.asarray(self._numbered(logged), dtype=np.float64))
        except (TypeError, ValueError):
            return nothing
        fits = rows.ndim == 2 and rows.shape[1] == len(names)
        return rows[self.description.row_format.fitting(rows)] if fits else nothing

    @property
    def texts(self) -> list[str]:
        """The texts in it."""
        given: Any = [] if self.logged is None else np.asarray(self.logged, dtype=object).ravel()
        return [text for text in given if isinstance(text, str)]

    def texts_of(self, name: str) -> list[str]:
        """The texts in a column of it."""
        has_column = isinstance(self.logged, pd.DataFrame) and name in self.logged.columns
        return [text for text in self.logged[name] if isinstance(text, str)] if has_column else []

    def without_texts(self) -> "InputExample":
        """The same with a number in the place of each text; without a frame none."""
        names = [feature.name for feature in self.description.features if feature.type == "text"]
        has_columns = isinstance(self.logged, pd.DataFrame) and set(names) <= set(self.logged.columns)
        logged = self.logged.assign(**dict.fromkeys(names, 0.0)) if has_columns else None
        return InputExample(logged, self.description.without_texts())

    def check(self, framework: Framework) -> None:
        """Raise `VerificationFailed` where rows score otherwise as a server would read them than as logged.

        What a server does not take is left out.
        """
        names, logged = list(self.description.row_format.feature_names), self.logged
        if not isinstance(logged, pd.DataFrame) or not set(names) <= set(logged.columns):
            return
        rows = np.asarray(self._numbered(logged), dtype=object if self.description.has_texts else np.float64)
        taken = self.description.row_format.fitting(self.description.as_served(rows))
        if not taken.any():
            return
        logged_rows = logged[names][taken]
        # JSON, as which examples are kept, does not tell None from NaN.
        texts_of = {one.name for one in self.description.features if one.levels or one.type == "boolean"}
        for name, gap in gaps_of(framework.model, names).items():
            if name in texts_of:
                texts = logged_rows[name].astype(object)
                logged_rows = logged_rows.assign(**{name: texts.where(texts.notna(), gap)})
        own, read = framework.scores_as_trained(logged_rows), framework.scores(rows[taken])
        if not np.allclose(own, read, rtol=1e-6, atol=1e-6):
            row = int(np.flatnonzero(taken)[np.abs(own - read).max(axis=1).argmax()])
            raise VerificationFailed(
                f"Row {row} of the input example scores otherwise where its texts are read as the levels of the "
                "model's encoders: something before them makes others of the texts. Nothing was stored."
            )

    def _numbered(self, logged: Any) -> Any:
        """An example frame with the numbers of its levels."""
        features = self.description.features
        if not isinstance(logged, pd.DataFrame) or not any(feature.levels for feature in features):
            return logged
        numbers = {}
        for feature in features:
            column = logged[feature.name]
            if feature.levels:
                known = {level: position for position, level in enumerate(feature.levels)}
                other = len(known) if feature.other else np.nan
                column = column.map(lambda value, known=known, other=other: known.get(value, other), na_action="ignore")
            numbers[feature.name] = column
        return pd.DataFrame(numbers)
