"""Keras models are served as MLflow's own server answers for them, or refused. They run on PyTorch."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from configuration.settings import EngineChoice
from runners.artefacts.artefact import Artefact
from runners.artefacts.card import Task
from runners.artefacts.scores import to_columns
from runners.engines.engine import open_engine
from shokado.lifecycle.errors import CanCarryCode, UnsupportedModel
from shokado.lifecycle.importing import registry
from shokado.lifecycle.importing.registry import Formats
from shokado.lifecycle.importing.version import ImportOrder, import_version
from tests.support.invocations import ours, theirs

os.environ["KERAS_BACKEND"] = "torch"
if "CI" not in os.environ:
    pytest.importorskip("torch", reason="PyTorch is not installed: make frameworks")
    pytest.importorskip("onnxscript", reason="PyTorch's exporter is not installed: make frameworks")
    pytest.importorskip("keras", reason="Keras is not installed: make frameworks")
import keras
from keras import layers

RANDOM = np.random.default_rng(8)
ROWS = RANDOM.normal(size=(200, 3)).astype(np.float32)
VALUE = (ROWS[:, 0] * 2 + ROWS[:, 1] + RANDOM.normal(size=200) / 4).astype(np.float32)
HELD_OUT = np.vstack([RANDOM.normal(size=(50, 3)), RANDOM.normal(size=(5, 3)) * 1e3, np.zeros((1, 3))]).astype(
    np.float32
)


def stack(*last: Any) -> keras.Model:
    return keras.Sequential([keras.Input((3,)), *last])


def trained(model: keras.Model) -> keras.Model:
    """By a step or two; what is measured of the data moves as well."""
    model.compile("adam", "mse")
    model.fit(ROWS, np.tile(VALUE[:, None], model.output_shape[-1]), epochs=2, verbose=0)
    return model


def with_a_way_around() -> keras.Model:
    given = keras.Input((3,))
    inside = layers.Dense(3, activation="elu")(layers.LayerNormalization()(given))
    return keras.Model(given, layers.Dense(1, activation="softplus")(layers.Add()([given, inside])))


def normalized() -> keras.Model:
    normalization = layers.Normalization()
    normalization.adapt(ROWS * 7 + 3)
    return stack(normalization, layers.Dense(2, activation="softmax"))


MODELS: dict[str, tuple[Task, Callable[[], keras.Model]]] = {
    "a value": (Task.REGRESSION, lambda: stack(layers.Dense(8, activation="relu"), layers.Dense(1))),
    "several values": (Task.MULTIOUTPUT, lambda: stack(layers.Dense(8, "relu"), layers.Dense(3))),
    "a sigmoid": (Task.REGRESSION, lambda: stack(layers.Dense(8, "tanh"), layers.Dense(1, "sigmoid"))),
    "two probabilities": (Task.BINARY, normalized),
    "what differs in training": (
        Task.MULTICLASS,
        lambda: stack(
            layers.Dense(16), layers.BatchNormalization(), layers.Dropout(0.5), layers.Dense(3, activation="softmax")
        ),
    ),
    "a way around": (Task.REGRESSION, with_a_way_around),
}


def log(model: keras.Model, **arguments: Any) -> str:
    arguments = {"signature": mlflow.models.infer_signature(ROWS)} | arguments
    with registry.session() as client:
        experiment = registry.open_experiment(client, "networks")
        with mlflow.start_run(experiment_id=experiment) as active:
            logged = mlflow.keras.log_model(model, name="model", pip_requirements=[], **arguments)
    assert active.info.run_id == logged.run_id
    return str(logged.model_uri)


def imported(uri: str, **options: Any) -> Artefact:
    return import_version(ImportOrder(uri, "v1", model="network", **options)).artefact


def scores_of(artefact: Artefact, rows: NDArray[np.float32]) -> NDArray[Any]:
    scores = open_engine(artefact.folder, artefact.card, EngineChoice.ONNXRUNTIME).predict(rows)
    return to_columns(artefact.card.task, np.asarray(scores))


@pytest.mark.parametrize("kind", MODELS)
def test_every_kind_of_model_answers_as_with_mlflow(kind: str, own_store: Path) -> None:
    task, make = MODELS[kind]
    model = trained(make())
    uri = log(model)
    artefact = imported(uri)
    assert (artefact.card.task, artefact.card.source.flavor) == (task, "keras")
    truth = np.asarray(model.predict(HELD_OUT, verbose=0))
    np.testing.assert_allclose(scores_of(artefact, HELD_OUT), truth, rtol=1e-4, atol=1e-5)
    alone = np.vstack([scores_of(artefact, row[None]) for row in HELD_OUT[:5]])
    np.testing.assert_allclose(alone, truth[:5], rtol=1e-4, atol=1e-5)
    body = {"inputs": ROWS[:20].tolist()}
    mine, wanted = ours(artefact, body)["predictions"], theirs(uri, body)["predictions"]
    assert np.shape(mine) == np.shape(wanted)
    np.testing.assert_allclose(mine, wanted, rtol=1e-4, atol=1e-5)


def test_columns_have_their_names_and_answers_their_numbers(own_store: Path) -> None:
    frame = pd.DataFrame(ROWS.astype(np.float64), columns=["width", "depth", "age"])
    model = trained(MODELS["what differs in training"][1]())
    uri = log(model)
    mlflow.models.set_signature(uri, mlflow.models.infer_signature(frame))
    artefact = imported(uri)
    assert artefact.card.feature_names == ("width", "depth", "age")
    body = {"dataframe_split": frame[:20].to_dict(orient="split", index=False)}
    mine, wanted = ours(artefact, body)["predictions"], theirs(uri, body)["predictions"]
    assert [list(row) for row in mine] == [list(row) for row in wanted] == [["0", "1", "2"]] * 20
    np.testing.assert_allclose(
        [list(row.values()) for row in mine], [list(row.values()) for row in wanted], rtol=1e-4, atol=1e-5
    )


def test_a_function_of_ones_own_is_not_read(own_store: Path) -> None:
    model = stack(layers.Lambda(lambda rows: rows * 2), layers.Dense(1))
    with pytest.raises(UnsupportedModel, match="has a Lambda layer, whose function is code in the file"):
        imported(log(model))


def test_a_file_of_keras_can_carry_code(own_store: Path) -> None:
    with pytest.raises(CanCarryCode, match="a file of Keras names what to build it with"):
        imported(log(MODELS["a value"][1]()), formats=Formats.WITHOUT_CODE)


def test_images_are_refused(own_store: Path) -> None:
    model = keras.Sequential([keras.Input((8, 8, 3)), layers.Flatten(), layers.Dense(1)])
    signature = mlflow.models.infer_signature(np.zeros((2, 8, 8, 3), dtype=np.float32))
    with pytest.raises(UnsupportedModel, match=r"takes \[-1, 8, 8, 3\] of float32, where rows are numbers"):
        imported(log(model, signature=signature))


def test_a_table_that_is_too_short_is_refused(own_store: Path) -> None:
    with pytest.raises(
        UnsupportedModel, match=r"The Keras model cannot be served: it does not answer all rows of its columns: .*range"
    ):
        imported(log(stack(layers.Embedding(2, 4), layers.Flatten(), layers.Dense(1))))
