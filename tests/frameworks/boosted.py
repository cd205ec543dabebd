"""What tests of boosting libraries share: rows, a model logged and imported for real, and its scores in a server.

Rows are packed of JSON, as a server does it, and scored by the engine that serves the version.
"""

import itertools
import json
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from configuration.settings import EngineChoice
from runners.artefacts.artefact import Artefact
from runners.artefacts.card import Task
from runners.artefacts.scores import as_model_predicts, probabilities_of
from runners.engines.engine import open_engine
from shokado.lifecycle.importing import registry
from shokado.lifecycle.importing.registry import Formats
from shokado.lifecycle.importing.version import ImportOrder, import_version

LOGGED_AS = {"lightgbm": "lgb_model", "catboost": "cb_model", "sklearn": "sk_model"}
_numbers = itertools.count(1)


def numbers(seed: int, count: int = 400) -> pd.DataFrame:
    """Columns of float32, of which the last has gaps."""
    random = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "visits": random.integers(0, 9, count),
            "spent": random.uniform(0, 50, count),
            "age": random.normal(40, 10, count),
            "income": random.lognormal(10, 1, count),
        }
    ).astype(np.float32)
    frame.loc[frame.index % 7 == 0, "income"] = np.nan
    return frame


FRAME, HELD = numbers(1), numbers(2, 60)
VALUE = (FRAME.visits + FRAME.spent / 5 + np.where(FRAME.income.isna(), 6, 0) + FRAME.age / 20).to_numpy() + 1
TWO = (VALUE > 11).astype(int)
THREE = np.digitize(VALUE, [8, 12])


def logged(flavor: str, model: Any, frame: pd.DataFrame, **arguments: Any) -> str:
    """The address of a model that is logged as a stranger would."""
    arguments = {
        "name": "model",
        "pip_requirements": [],
        "signature": mlflow.models.infer_signature(frame),
        "input_example": frame.head(40),
        LOGGED_AS[flavor]: model,
    } | arguments
    with registry.session() as client:
        experiment = registry.open_experiment(client, "boosted")
        with mlflow.start_run(experiment_id=experiment) as active:
            getattr(mlflow, flavor).log_model(**arguments)
    return f"runs:/{active.info.run_id}/model"


def imported(uri: str, formats: Formats = Formats.ANY) -> Artefact:
    return import_version(ImportOrder(uri, f"v{next(_numbers)}", "boosted", formats=formats)).artefact


def rows_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of JSON, with all digits that a float32 has; None for what is missing."""
    return [
        {name: _plain(value) for name, value in row.items()} for row in frame.astype(object).to_dict(orient="records")
    ]


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return value
    return None if pd.isna(value) else json.loads(json.dumps(float(value)))


def scored(artefact: Artefact, frame: pd.DataFrame) -> NDArray[np.float32]:
    """Scores as a server has them, (rows,) or (rows, classes)."""
    engine = open_engine(artefact.folder, artefact.card, EngineChoice.AUTO)
    row_format, rows = artefact.card.row_format, rows_of(frame)
    return np.asarray(engine.predict(row_format.join([row_format.pack(rows)], len(rows))))


def answered(artefact: Artefact, frame: pd.DataFrame) -> Any:
    """What `/invocations` answers."""
    return as_model_predicts(artefact.card, scored(artefact, frame))


def assert_scored_alike(artefact: Artefact, frame: pd.DataFrame, own: Any) -> None:
    """Hold scores to those that the framework gives the same rows."""
    own = np.asarray(own, dtype=np.float64)
    found = scored(artefact, frame)
    if artefact.card.task is not Task.REGRESSION:
        found = np.asarray(probabilities_of(artefact.card, found))
        own = own if own.ndim == 2 else np.column_stack([1 - own, own])
    assert found.shape == own.shape
    assert len(np.unique(own)) > 1
    np.testing.assert_allclose(found, own, rtol=2e-6, atol=2e-6 * max(1.0, float(np.abs(own).max())))


def on_thresholds(frame: pd.DataFrame, thresholds: list[tuple[int, float]], *, doubles: bool = False) -> pd.DataFrame:
    """Rows with values on thresholds, by the column's position, and the float32 on both sides of them."""
    rows = []
    for at, (column, threshold) in enumerate(thresholds):
        near = np.float32(threshold)
        for value in (near, np.nextafter(near, np.float32(-np.inf)), np.nextafter(near, np.float32(np.inf))):
            row = frame.iloc[at % len(frame)].copy()
            row.iloc[column] = np.float64(value) if doubles else value
            rows.append(row)
    return pd.DataFrame(rows).astype(frame.dtypes.to_dict()).reset_index(drop=True)
