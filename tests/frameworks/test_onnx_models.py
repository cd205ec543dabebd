"""ONNX files as skl2onnx and onnxmltools make them, and a network as it is exported: logged with `mlflow.onnx`, bare,
or in BentoML's store.
"""

from functools import partial
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxmltools import convert_xgboost
from onnxmltools.convert.common.data_types import FloatTensorType as XgboostTensor
from skl2onnx import to_onnx
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from xgboost import XGBClassifier

from runners.artefacts.card import Task
from tests.frameworks.conftest import Try
from tests.frameworks.samples import COLUMNS, FLOATS, NUMBERS, Sample
from tests.frameworks.tried_model import Train, TriedModel

HIDDEN = 16


def by_skl2onnx(estimator: Any, learned: str, **options: Any) -> Train:
    """What converts an estimator that learned the attribute `learned` of the rows."""

    def train(rows: Sample) -> Any:
        values = rows.frame.to_numpy()
        fitted = estimator.fit(values, getattr(rows, learned))
        return to_onnx(fitted, values[:1], options={id(fitted): options} if options else None, target_opset=15)

    return train


def with_columns(*numbers: Any, steps: Any) -> Train:
    """What converts a pipeline that begins with encoders, with an input for each column of numbers and texts."""

    def train(rows: Sample) -> Any:
        fitted = make_pipeline(steps, LogisticRegression()).fit(rows.frame, rows.yes)
        kinds = dict(zip(("age", "fare"), numbers, strict=True))
        types = [(name, kinds.get(name, StringTensorType)([None, 1])) for name in rows.frame]
        options = {id(fitted): {"zipmap": False}}
        return to_onnx(fitted, initial_types=types, options=options, target_opset={"": 15, "ai.onnx.ml": 3})

    return train


def encoded(encoder: Any, scaler: Any) -> ColumnTransformer:
    return ColumnTransformer([("texts", encoder, ["sex", "port", "deck"]), ("numbers", scaler, ["age", "fare"])])


def by_onnxmltools(rows: Sample) -> Any:
    fitted = XGBClassifier(n_estimators=8, max_depth=4, n_jobs=1).fit(rows.frame.to_numpy(), rows.three)
    shape = XgboostTensor([None, rows.frame.shape[1]])
    return convert_xgboost(fitted, initial_types=[("input", shape)], target_opset=15)


def network(last: str | None, width: int, rows: Any = "batch") -> Train:
    """What makes a network of two layers, with an operator behind them, as an export of PyTorch has it."""

    def train(sample: Sample) -> Any:
        random, columns = np.random.default_rng(1), sample.frame.shape[1]
        weights = {
            "w1": random.normal(size=(columns, HIDDEN)) / 20,
            "b1": random.normal(size=HIDDEN),
            "w2": random.normal(size=(HIDDEN, width)) / HIDDEN,
            "b2": random.normal(size=width),
        }
        nodes = [
            helper.make_node("Gemm", ["x", "w1", "b1"], ["hidden"]),
            helper.make_node("Relu", ["hidden"], ["positive"]),
            helper.make_node("Gemm", ["positive", "w2", "b2"], ["logits"]),
            helper.make_node(last or "Identity", ["logits"], ["output"]),
        ]
        graph = helper.make_graph(
            nodes,
            "network",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [rows, columns])],
            [helper.make_tensor_value_info("output", TensorProto.FLOAT, [rows, width])],
            [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)

    return train


model, file, saved = (partial(TriedModel, flavor) for flavor in ("onnx", "onnx file", "bentoml.onnx"))
BINARY, MULTICLASS, REGRESSION = Task.BINARY, Task.MULTICLASS, Task.REGRESSION
NET = {"hidden_layer_sizes": (8,), "max_iter": 50, "random_state": 0}
MODELS = (
    model("skl2onnx of LogisticRegression, ZipMap", FLOATS, BINARY, by_skl2onnx(LogisticRegression(), "yes")),
    model("skl2onnx of LogisticRegression", FLOATS, BINARY, by_skl2onnx(LogisticRegression(), "two", zipmap=False)),
    model("skl2onnx of RandomForestClassifier, ZipMap", FLOATS, MULTICLASS,
          by_skl2onnx(RandomForestClassifier(8, max_depth=4, random_state=0), "three")),
    model("skl2onnx of MLPClassifier", FLOATS, MULTICLASS, by_skl2onnx(MLPClassifier(**NET), "sizes", zipmap=False)),
    model("skl2onnx of LinearRegression", FLOATS, REGRESSION, by_skl2onnx(LinearRegression(), "value")),
    model("skl2onnx of LinearRegression", NUMBERS, REGRESSION, by_skl2onnx(LinearRegression(), "value")),
    model("skl2onnx of StandardScaler, LogisticRegression", NUMBERS, BINARY,
          by_skl2onnx(make_pipeline(StandardScaler(), LogisticRegression()), "two", zipmap=False)),
    model("skl2onnx of OneHotEncoder(ignore), LogisticRegression", COLUMNS, BINARY,
          with_columns(FloatTensorType, FloatTensorType,
                       steps=encoded(OneHotEncoder(handle_unknown="ignore"), StandardScaler())), takes_unknown=True),
    model("skl2onnx of OneHotEncoder, LogisticRegression, doubles", COLUMNS, "it does not work in ONNX Runtime",
          with_columns(DoubleTensorType, DoubleTensorType, steps=encoded(OneHotEncoder(), StandardScaler()))),
    model("skl2onnx of OrdinalEncoder(-1), LogisticRegression", COLUMNS, BINARY,
          with_columns(FloatTensorType, FloatTensorType,
                       steps=encoded(OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
                                     "passthrough")), takes_unknown=True),
    model("onnxmltools of XGBClassifier", FLOATS, MULTICLASS, by_onnxmltools),
    model("a network, Softmax", FLOATS, MULTICLASS, network("Softmax", 3)),
    model("a network, Softmax of two", FLOATS, BINARY, network("Softmax", 2)),
    model("a network of a value", FLOATS, REGRESSION, network(None, 1)),
    model("a network of three values", FLOATS, Task.MULTIOUTPUT, network(None, 3)),
    model("a network of one row", FLOATS, "it takes 1 rows at a time", network("Softmax", 3, rows=1)),
    file("skl2onnx of RandomForestClassifier", FLOATS, MULTICLASS,
         by_skl2onnx(RandomForestClassifier(8, max_depth=4, random_state=0), "three")),
    file("skl2onnx of LinearRegression", NUMBERS, REGRESSION, by_skl2onnx(LinearRegression(), "value")),
    file("skl2onnx of OneHotEncoder(ignore), LogisticRegression", COLUMNS, BINARY,
         with_columns(FloatTensorType, FloatTensorType,
                      steps=encoded(OneHotEncoder(handle_unknown="ignore"), StandardScaler())), takes_unknown=True),
    file("a network of three values", FLOATS, Task.MULTIOUTPUT, network(None, 3)),
    file("a network of one row", FLOATS, "it takes 1 rows at a time", network("Softmax", 3, rows=1)),
    saved("skl2onnx of LogisticRegression", FLOATS, BINARY, by_skl2onnx(LogisticRegression(), "two", zipmap=False)),
    saved("a network of a value", FLOATS, REGRESSION, network(None, 1)),
)  # fmt: skip


@pytest.mark.parametrize("tried", MODELS, ids=str)
def test_a_model_is_served_as_it_answers_or_refused(tried: TriedModel, try_out: Try) -> None:
    try_out(tried)
