"""Training of the two example versions: a data set goes in, two registered models with metrics come out.

`v1` is gradient-boosted trees (XGBoost), `v2` a small neural net (scikit-learn). Both are seeded, and the number of
threads is fixed because it decides the order in which XGBoost adds up floats. For texts, both are a logistic regression
over TF-IDF weights: `v1` of words, `v2` of words, numbers and punctuation as they are written, and of pairs of them.
"""

import importlib.metadata
from dataclasses import dataclass
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn import metrics
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits
from xgboost import XGBClassifier, XGBRegressor

from runners.artefacts.card import Task
from shokado.lifecycle.datasets import DataSet, Part, Rows
from shokado.lifecycle.importing import registry
from shokado.lifecycle.progress import step

SEED = 11
THREADS = 2
TREES = 100
DEPTH = 6
"""Number and depth of trees are XGBoost's own defaults."""
HIDDEN_LAYERS = (32, 16)
WIDE_LAYERS = (768, 512)
"""Nearly all of so wide a network is weights between the two layers, which int8 makes four times smaller."""
WIDE_ROUNDS = 8
WIDE_ROUNDS_OF_FEW_ROWS = 80
"""How often a wide net goes through its rows: some seconds, and its figures are those of `v2` within .01."""
SMALL_ROWS = 1000
"""Rows below which trees are regularised, and a net, with no rows to spare for early stopping, is fitted by L-BFGS."""
VOCABULARY = 4000
"""How many words, or pairs of them, a text model counts: each costs every request some bytes of memory traffic."""
WRITTEN_TOKENS = "[A-Za-z]+|[0-9]+|[!$%]+"
EXAMPLE_ROWS = 5
"""Rows that the registry shows of a model's input."""


@dataclass(frozen=True)
class Recipe:
    """How one version is trained, and what the registry calls it (`v1` itself is a reserved alias in MLflow)."""

    label: str
    flavor: str
    package: str
    alias: str
    is_wide: bool = False


RECIPES = (
    Recipe("v1", "xgboost", "xgboost-cpu", "champion"),
    Recipe("v2", "sklearn", "scikit-learn", "challenger"),
)
WIDE = Recipe("v2-wide", "sklearn", "scikit-learn", "wide", is_wide=True)
"""A network of the kind of `v2` with many times its weights, which is there to be quantized; texts have none."""

TEXT_RECIPES = (
    Recipe("v1", "sklearn", "scikit-learn", "champion"),
    Recipe("v2", "sklearn", "scikit-learn", "challenger"),
)


def recipes_of(data: DataSet) -> tuple[Recipe, ...]:
    """How the data set's versions are trained."""
    return RECIPES if data.row_format.text_field is None else TEXT_RECIPES


def recipe_of(data: DataSet, label: str) -> Recipe:
    """The recipe of that version label."""
    return next(recipe for recipe in (*recipes_of(data), WIDE) if recipe.label == label)


def train(data: DataSet, recipe: Recipe, client: mlflow.MlflowClient) -> registry.Registered:
    """Train one version, log it in an experiment named like the data set, register it."""
    with step(f"{data.name} {recipe.label}: train {recipe.flavor} on {len(data.train.rows):,} rows") as current:
        estimator = build(data, recipe)
        # Two threads that wait for each other take ten times as long on a busy machine.
        with threadpool_limits(1 if recipe.is_wide else None):
            model = fit(estimator, data)
        measured = evaluate(model, data)
        current.outcome = ", ".join(f"{name} {value:.3f}" for name, value in measured.items())
    with step(f"{data.name} {recipe.label}: register") as current:
        registered = _register(model, data, recipe, measured, client)
        current.outcome = registered.uri
    return registered


def build(data: DataSet, recipe: Recipe) -> Any:
    """The unfitted estimator of a recipe for the data set's task."""
    if data.row_format.text_field is not None:
        return _text_pipeline(data.feature_names[0], recipe)
    if recipe.flavor == "xgboost":
        return _trees(data.task, len(data.train.rows))
    return _net(data.task, len(data.train.rows), recipe.is_wide)


def _trees(task: Task, rows: int) -> Any:
    objective = {
        Task.BINARY: "binary:logistic",
        Task.MULTICLASS: "multi:softprob",
        Task.REGRESSION: "reg:squarederror",
    }[task]
    regularised = {"subsample": 0.7, "colsample_bytree": 0.5, "min_child_weight": 2}
    kind = XGBRegressor if task is Task.REGRESSION else XGBClassifier
    return kind(
        objective=objective,
        n_estimators=TREES,
        max_depth=DEPTH,
        learning_rate=0.05 if rows < SMALL_ROWS else 0.1,
        tree_method="hist",
        n_jobs=THREADS,
        random_state=SEED,
        **(regularised if rows < SMALL_ROWS else {}),
    )


def _net(task: Task, rows: int, is_wide: bool) -> Any:
    kind = MLPRegressor if task is Task.REGRESSION else MLPClassifier
    layers = WIDE_LAYERS if is_wide else HIDDEN_LAYERS
    if rows < SMALL_ROWS:
        penalty = 20.0 if task is Task.REGRESSION else 5.0
        rounds = WIDE_ROUNDS_OF_FEW_ROWS if is_wide else 1000
        net = kind(hidden_layer_sizes=layers, solver="lbfgs", alpha=penalty, max_iter=rounds, random_state=SEED)
    else:
        rounds = WIDE_ROUNDS if is_wide else 200
        net = kind(hidden_layer_sizes=layers, early_stopping=True, max_iter=rounds, random_state=SEED)
    return Pipeline([("scale", StandardScaler()), ("net", net)])


def _text_pipeline(column: str, recipe: Recipe) -> Any:
    words = TfidfVectorizer(max_features=VOCABULARY)
    written = TfidfVectorizer(
        max_features=VOCABULARY, lowercase=False, token_pattern=WRITTEN_TOKENS, ngram_range=(1, 2)
    )
    vectorizer = words if recipe.label == "v1" else written
    # By way of the column, so that the model takes a frame as every other does, from MLflow's own server too.
    columns = ColumnTransformer([("tfidf", vectorizer, column)])
    return Pipeline([("columns", columns), ("regression", LogisticRegression(C=3.0))])


def fit(estimator: Any, data: DataSet) -> Any:
    """Fit on the training part, with named columns so that the model in the registry knows its features."""
    if not (isinstance(estimator, Pipeline) and isinstance(estimator[-1], MLPRegressor)):
        return estimator.fit(frame(data, data.train.rows), data.train.targets)
    targets = data.train.targets.astype(np.float64)
    mean, deviation = targets.mean(), targets.std()
    estimator.fit(frame(data, data.train.rows), (targets - mean) / deviation)
    # The last layer is linear: scaling it back there leaves one plain pipeline, where a wrapper around the net, such
    # as TransformedTargetRegressor, has no ONNX conversion.
    net = estimator[-1]
    net.coefs_[-1] = net.coefs_[-1] * deviation
    net.intercepts_[-1] = net.intercepts_[-1] * deviation + mean
    return estimator


def frame(data: DataSet, rows: Rows) -> Any:
    """The rows as a pandas DataFrame whose columns have the features' names."""
    return pd.DataFrame(rows, columns=list(data.feature_names))


def evaluate(model: Any, data: DataSet) -> dict[str, float]:
    """Metrics over the test part: accuracy, auc (one class against the rest), log_loss; or r2, rmse."""
    part: Part = data.test
    if data.task is Task.REGRESSION:
        values = model.predict(frame(data, part.rows))
        return {
            "r2": float(metrics.r2_score(part.targets, values)),
            "rmse": float(metrics.root_mean_squared_error(part.targets, values)),
        }
    scores: NDArray[np.floating[Any]] = model.predict_proba(frame(data, part.rows))
    ranked = scores[:, 1] if data.task is Task.BINARY else scores
    return {
        "accuracy": float(metrics.accuracy_score(part.targets, scores.argmax(axis=1))),
        "auc": float(metrics.roc_auc_score(part.targets, ranked, multi_class="ovr")),
        "log_loss": float(metrics.log_loss(part.targets, scores)),
    }


def _register(
    model: Any, data: DataSet, recipe: Recipe, measured: dict[str, float], client: mlflow.MlflowClient
) -> registry.Registered:
    experiment = registry.open_experiment(client, data.name)
    tags = {"dataset": data.name, "task": data.task.value, registry.VERSION_TAG: recipe.label}
    with mlflow.start_run(experiment_id=experiment, run_name=f"{data.name}-{recipe.label}", tags=tags):
        mlflow.log_params(_parameters(model, data))
        mlflow.log_metrics(measured)
        logged = _log_model(model, data, recipe)
    return registry.register(client, data.name, logged, tags, recipe.alias)


def _parameters(model: Any, data: DataSet) -> dict[str, Any]:
    chosen = model[-1] if hasattr(model, "steps") else model
    given = {name: value for name, value in chosen.get_params(deep=False).items() if value is not None}
    return given | {"train_rows": len(data.train.rows), "test_rows": len(data.test.rows), "seed": SEED}


def _log_model(model: Any, data: DataSet, recipe: Recipe) -> Any:
    example = frame(data, data.train.rows[:EXAMPLE_ROWS])
    # Given requirements keep MLflow from starting an interpreter of its own to find them out, which takes long.
    arguments = {
        "name": "model",
        "signature": mlflow.models.infer_signature(example, model.predict(example)),
        "input_example": example,
        "pip_requirements": [f"{recipe.package}=={importlib.metadata.version(recipe.package)}"],
        "metadata": {"shokado": _metadata(data)},
    }
    if recipe.flavor == "xgboost":
        return mlflow.xgboost.log_model(model, **arguments)
    # A net fitted by Adam keeps its optimizer, the one type in it that skops does not know to be harmless.
    trusted = ["sklearn.neural_network._stochastic_optimizers.AdamOptimizer"]
    return mlflow.sklearn.log_model(model, skops_trusted_types=trusted, **arguments)


def _metadata(data: DataSet) -> dict[str, Any]:
    """What an import needs and a signature cannot say; it travels in the model's own `MLmodel` file."""
    return {
        "dataset": data.name,
        "task": data.task.value,
        "classes": list(data.classes),
        "features": [feature.model_dump() for feature in data.features],
    }
