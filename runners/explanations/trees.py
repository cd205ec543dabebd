"""Contributions of the trees of a Booster, which XGBoost finds itself: exact, in one pass over the trees.

They are of the margin, the sum of the leaves: of a probability no sum over trees is known.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from runners.artefacts.card import Card, FileKind
from runners.artefacts.integrity import check_file
from runners.artefacts.scores import tolerance_of
from runners.errors import NotExplainable
from runners.explanations.contributions import Contributions, ExplanationMethod, ExplanationScale, Values
from runners.inputs.rows import Rows

if TYPE_CHECKING:
    import xgboost

ROUNDING = 1e-5
"""How far, for its size, a margin may lie from the sum of contributions: XGBoost adds them up in float32."""


def _softmax(margins: Values) -> Values:
    powers = np.exp(margins - margins.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _logistic(margins: Values) -> Values:
    return np.asarray(np.exp(-np.logaddexp(0, -margins)))


LINKS: Mapping[str, Callable[[Values], Values]] = {
    "identity": lambda margins: margins,
    "logistic": _logistic,
    "softmax": _softmax,
    "exponential": np.exp,
}
"""What makes scores of margins, (rows, outputs), by the name that an answer has for it."""
_OBJECTIVES = {
    "binary:logistic": "logistic", "reg:logistic": "logistic", "multi:softprob": "softmax",
    "count:poisson": "exponential", "reg:gamma": "exponential", "reg:tweedie": "exponential",
    "survival:cox": "exponential", "survival:aft": "exponential",
    "binary:logitraw": "identity", "reg:squarederror": "identity", "reg:squaredlogerror": "identity",
    "reg:absoluteerror": "identity", "reg:pseudohubererror": "identity", "reg:quantileerror": "identity",
    "rank:ndcg": "identity", "rank:map": "identity", "rank:pairwise": "identity",
}  # fmt: skip


class TreeExplainer:
    """A Booster of its own: it works in another thread than the engine's."""

    def __init__(self, booster: "xgboost.Booster", link: str, card: Card) -> None:
        self._booster = booster
        self._link = link
        self._card = card

    def explain(self, rows: Rows) -> Contributions:
        """The contributions of rows, (rows, features). May take long; call it in a thread."""
        import xgboost

        matrix = xgboost.DMatrix(rows, missing=np.nan, nthread=1)
        found = self._booster.predict(matrix, pred_contribs=True, strict_shape=True).astype(np.float64)
        contributions, base = found[:, :, :-1].transpose(0, 2, 1), found[0, :, -1]
        scale = ExplanationScale.MARGIN if self._link != "identity" else ExplanationScale.of_scores(self._card)
        return Contributions(
            ExplanationMethod.TREES,
            scale,
            base,
            base + contributions.sum(axis=1),
            contributions,
            link=self._link if scale is ExplanationScale.MARGIN else "",
        )

    def agrees(self, found: Contributions, scores: Values) -> bool:
        """Whether the rows' scores, (rows, outputs), are what the link makes of the contributions' sum.

        Not where another engine took the other side of a threshold that float32 cannot tell a value from.
        """
        implied = LINKS[self._link](found.explained)
        sizes = np.abs(found.contributions).sum(axis=1) + np.abs(found.base)
        slack = ROUNDING * (np.abs(implied) if self._link == "exponential" else 1.0) * sizes
        return bool((np.abs(implied - scores) <= tolerance_of(self._card, 0.0) + slack).all())


def open_trees(folder: Path, card: Card) -> TreeExplainer | None:
    """The explainer of an artefact that has a Booster; None where it has none, or none that can be taken apart.

    Raises `DamagedFile`, and `NotExplainable` where XGBoost is not installed.
    """
    if FileKind.UBJ not in card.files:
        return None
    try:
        import xgboost
    except ModuleNotFoundError:
        hint = "it was built without; build it with: shokado lambda build --xgboost"
        raise NotExplainable(f"XGBoost explains this version, which is not in this function; {hint}") from None

    path = check_file(folder, FileKind.UBJ, card)
    booster = xgboost.Booster(params={"nthread": 1}, model_file=str(path))
    booster.feature_names = booster.feature_types = None
    config: dict[str, Any] = json.loads(booster.save_config())["learner"]
    link = _OBJECTIVES.get(config["objective"]["name"])
    if link is None:
        return None
    explainer = TreeExplainer(booster, link, card)
    scores = np.array(card.examples.scores, dtype=np.float64).reshape(len(card.examples.rows), -1)
    try:
        found = explainer.explain(card.row_format.batch(card.examples.rows))
    except xgboost.core.XGBoostError:
        # Such as trees whose leaves are vectors.
        return None
    return explainer if found.explained.shape == scores.shape and explainer.agrees(found, scores) else None
