"""What an explainer says of an imported version, over the engine that serves it."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from configuration.settings import EngineChoice
from runners.artefacts.artefact import Artefact
from runners.artefacts.background import read_background, rows_of
from runners.engines.engine import open_engine
from runners.explanations.shapley import SamplingPlan
from tests.runners.explanations.driving import base_of, explained


def background_rows_of(artefact: Artefact) -> NDArray[Any]:
    background = read_background(artefact.folder, artefact.card)
    assert background is not None
    return rows_of(background, artefact.card)


def explained_by_engine(
    artefact: Artefact, rows: NDArray[Any], pairs: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Base, (outputs,); contributions and their standard errors, (rows, features, outputs).

    The standard errors are 0 without `pairs` of orders, where all sets of features are scored.
    """
    engine, background = (
        open_engine(artefact.folder, artefact.card, EngineChoice.ONNXRUNTIME),
        background_rows_of(artefact),
    )
    plan = SamplingPlan(len(artefact.card.features), len(background), pairs)

    def scores(made: NDArray[Any]) -> NDArray[np.float64]:
        return engine.predict(made).astype(np.float64).reshape(len(made), -1)

    found = [explained(scores, row, background, plan)[0] for row in rows]
    contributions = np.stack([one.contributions for one in found])
    errors = np.stack([np.zeros_like(one.contributions) if one.errors is None else one.errors for one in found])
    base = base_of(scores, background, plan)
    assert base + contributions.sum(axis=1) == pytest.approx(scores(rows), rel=1e-6, abs=1e-6)
    return base, contributions, errors
