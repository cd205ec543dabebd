"""A scikit-learn pipeline over three columns of texts and two of numbers with gaps: trained, logged, imported.

A folder goes in, and has afterwards what each contender reads.
"""

import logging
import os
import shutil
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from load_tests.bench.bench_model import FloatArray

NUMBERS = ("age", "fare")
TEXTS = ("sex", "port", "deck")
MODEL = "passengers"
TRAINED_ROWS = 5_000
PICKLE, LOGGED, STORE, CONFIGURATION = "model.joblib", "model", "bentoml", "serving.yaml"
"""What lies in the folder: the pipeline pickled and as MLflow logs it, Shokado's model store and its configuration."""
_LEVELS = {"sex": ("female", "male"), "port": ("Cherbourg", "Queenstown", "Southampton"), "deck": tuple("ABCDEFG")}
_GAPS = {"age": 0.2, "fare": 0.05}
"""Part of the values that are missing. No text is: MLServer and MLflow's server make None of it, which scikit-learn's
imputer of NaN does not see, so that they would answer something else."""
_SERVING = f"""
model: {MODEL}
versions: {{v1: {{}}}}
environments:
  production: {{active: v1, weights: {{v1: 1}}}}
"""


class NotPrepared(Exception):
    """The model could not be trained or imported; the message says what the command said last."""


@dataclass(frozen=True)
class PipelineModel:
    """The folder that `prepare` fills."""

    folder: Path
    framework: ClassVar[str] = "scikit-learn"

    def draw(self, count: int, seed: int) -> list[dict[str, Any]]:
        """Passengers as JSON has them, None where a value is missing."""
        random = np.random.default_rng(seed)
        columns: dict[str, list[Any]] = {
            "age": random.normal(38, 14, count).clip(1, 90).round(1).tolist(),
            "fare": random.exponential(32, count).round(2).tolist(),
            **{name: random.choice(levels, count).tolist() for name, levels in _LEVELS.items()},
        }
        for name, share in _GAPS.items():
            missing = random.random(count) < share
            columns[name] = [None if gap else value for gap, value in zip(missing, columns[name], strict=True)]
        return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]

    def predict(self, rows: list[dict[str, Any]]) -> FloatArray:
        """The second column of the pipeline's own `predict_proba` of a DataFrame."""
        import joblib

        return np.asarray(joblib.load(self.folder / PICKLE).predict_proba(_frame(rows))[:, 1], dtype=np.float32)

    def prepare(self) -> None:
        """Train, log and import the model anew. Raises `NotPrepared`."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        (self.folder / CONFIGURATION).write_text(_SERVING)
        uri = _train(self)
        program = Path(sys.executable).with_name("shokado")
        environment = {"BENTOML_HOME": str(self.folder / STORE), "MLFLOW_TRACKING_URI": _registry(self.folder)}
        done = subprocess.run(
            [str(program), "models", "import", uri, "--name", MODEL, "--as", "v1"],
            env={**os.environ, **environment}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise NotPrepared((done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1])


def _registry(folder: Path) -> str:
    return f"sqlite:///{folder.absolute() / 'mlflow.db'}"


def _frame(rows: list[dict[str, Any]]) -> Any:
    """The types do not depend on which values are missing."""
    import pandas as pd

    return pd.DataFrame(rows).astype(dict.fromkeys(NUMBERS, "float64") | dict.fromkeys(TEXTS, "str"))


def _train(model: PipelineModel) -> str:
    """Fit the pipeline, pickle it, and log it as one that answers probabilities. Gives its address."""
    import joblib
    import mlflow
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    rows = model.draw(TRAINED_ROWS, seed=0)
    chance = [(row["sex"] == "female") * 2 + (row["fare"] or 0) / 60 - (row["age"] or 40) / 30 for row in rows]
    survived = np.array(chance) + np.random.default_rng(1).normal(size=len(rows)) > 0
    texts = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore"))
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    columns = ColumnTransformer([("texts", texts, [*TEXTS]), ("numbers", numbers, [*NUMBERS])])
    frame = _frame(rows)
    pipeline = make_pipeline(columns, LogisticRegression(max_iter=1000)).fit(frame, survived.astype(int))
    joblib.dump(pipeline, model.folder / PICKLE)
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    mlflow.set_tracking_uri(_registry(model.folder))
    experiment = mlflow.create_experiment("bench", artifact_location=(model.folder / "artifacts").absolute().as_uri())
    with warnings.catch_warnings(action="ignore"), mlflow.start_run(experiment_id=experiment):
        logged = mlflow.sklearn.log_model(
            pipeline,
            name=MODEL,
            input_example=frame[:20],
            pyfunc_predict_fn="predict_proba",
            serialization_format="cloudpickle",
            pip_requirements=[],
        )
    mlflow.artifacts.download_artifacts(logged.model_uri, dst_path=str(model.folder / LOGGED))
    return str(logged.model_uri)
