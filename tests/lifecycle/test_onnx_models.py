"""ONNX files that somebody logged with `mlflow.onnx` are served as MLflow's own server answers for them, or refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import onnx
import pandas as pd
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper
from onnxmltools import convert_xgboost
from onnxmltools.convert.common.data_types import FloatTensorType
from skl2onnx import to_onnx
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from xgboost import XGBClassifier

from runners.artefacts.artefact import Artefact
from runners.artefacts.card import FileKind, Task
from shokado.lifecycle.errors import UnsupportedModel
from shokado.lifecycle.importing import conversion, onnx_models, verification, version
from shokado.lifecycle.importing.registry import Formats, LoadedModel
from shokado.lifecycle.importing.version import ImportOrder, import_version
from tests.support.invocations import assert_near, ours, theirs

RANDOM = np.random.default_rng(8)
ROWS = RANDOM.normal(size=(300, 3)).astype(np.float32)
FRAME = pd.DataFrame(ROWS, columns=["width", "depth", "age"])
VALUE = ROWS[:, 0] * 2 + ROWS[:, 1] + RANDOM.normal(size=300) / 4
YES = np.where(VALUE > 0, "yes", "no")
THREE = np.array([2, 5, 9])[np.digitize(VALUE, [-1, 1])]
HIDDEN = 128
"""Enough for weights that MLflow puts into a file beside the graph's."""


def of_sklearn(model: Any, **options: Any) -> ModelProto:
    graph: ModelProto = to_onnx(model, ROWS[:1], options={id(model): options} if options else None, target_opset=15)
    return graph


def of_xgboost() -> ModelProto:
    model = XGBClassifier(n_estimators=5, max_depth=3, n_jobs=1).fit(ROWS, np.digitize(VALUE, [-1, 1]))
    graph: ModelProto = convert_xgboost(model, initial_types=[("input", FloatTensorType([None, 3]))], target_opset=15)
    return graph


def net(last: list[Any], width: int, shape: list[Any], rows: Any = "batch", names: str = "x") -> ModelProto:
    """A network of two layers as an export of PyTorch has it, with `last` behind it, from "logits" to "output"."""
    weights = {
        "w1": RANDOM.normal(size=(3, HIDDEN)),
        "b1": RANDOM.normal(size=HIDDEN),
        "w2": RANDOM.normal(size=(HIDDEN, width)) / HIDDEN,
        "b2": RANDOM.normal(size=width),
    }
    nodes = [
        helper.make_node("Gemm", [names, "w1", "b1"], ["input"]),  # a name that the contract has for something else
        helper.make_node("Relu", ["input"], ["value"]),
        helper.make_node("Gemm", ["value", "w2", "b2"], ["logits"]),
        *last,
    ]
    body = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info(names, TensorProto.FLOAT, [rows, 3])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, shape)],
        [onnx.numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()],
    )
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)


def softmax() -> list[Any]:
    return [helper.make_node("Softmax", ["logits"], ["output"], axis=1)]


def identity() -> list[Any]:
    return [helper.make_node("Identity", ["logits"], ["output"])]


def flat() -> list[Any]:
    return [helper.make_node("ReduceSum", ["logits"], ["output"], keepdims=0)]


def flattened() -> ModelProto:
    graph = net([helper.make_node("Reshape", ["logits", "all"], ["output"])], 1, ["batch"])
    graph.graph.initializer.append(onnx.numpy_helper.from_array(np.array([-1], dtype=np.int64), "all"))
    return graph


TAKEN: dict[str, tuple[Task, Callable[[], ModelProto]]] = {
    "skl2onnx with maps": (Task.BINARY, lambda: of_sklearn(LogisticRegression().fit(ROWS, YES))),
    "skl2onnx with maps of three": (
        Task.MULTICLASS,
        lambda: of_sklearn(RandomForestClassifier(4, max_depth=4).fit(ROWS, THREE)),
    ),
    "skl2onnx with probabilities": (
        Task.MULTICLASS,
        lambda: of_sklearn(RandomForestClassifier(4, max_depth=4).fit(ROWS, THREE), zipmap=False),
    ),
    "skl2onnx, labels looked up": (
        Task.BINARY,
        lambda: of_sklearn(
            make_pipeline(StandardScaler(), MLPClassifier((4,), max_iter=300)).fit(ROWS, YES), zipmap=False
        ),
    ),
    "skl2onnx value": (Task.REGRESSION, lambda: of_sklearn(LinearRegression().fit(ROWS, VALUE))),
    "onnxmltools": (Task.MULTICLASS, of_xgboost),
    "net of probabilities": (Task.MULTICLASS, lambda: net(softmax(), 3, ["batch", 3])),
    "net of two probabilities": (Task.BINARY, lambda: net(softmax(), 2, ["batch", 2])),
    "net of a value": (Task.REGRESSION, lambda: net(identity(), 1, ["batch", 1])),
    "net of a flat value": (Task.REGRESSION, flattened),
    "net of several values": (Task.MULTIOUTPUT, lambda: net(identity(), 3, ["batch", 3])),
}


def kept(graph: ModelProto, folder: Path, given: Any) -> LoadedModel:
    """The file as MLflow brings it back, logged with the signature of what is given."""
    folder /= "model"
    signature = None if given is None else mlflow.models.infer_signature(given)
    mlflow.onnx.save_model(graph, folder, signature=signature, pip_requirements=[])
    loaded = onnx_models.read(mlflow.onnx.load_model(folder))
    information = mlflow.models.Model.load(folder)
    example = None if given is None else given[:3]
    return LoadedModel(loaded, "models:/x/1", "", "onnx", "onnx", information.signature, example, {}, {})


def stored(source: LoadedModel, folder: Path) -> Artefact:
    description = conversion.describe(source)
    kinds = conversion.convert(source.model, description, folder)
    verified = verification.verify(source, description, folder, kinds, 1e-4)
    order = ImportOrder("models:/x/1", "v1")
    return Artefact("v1", "x:v1", folder, version._card(order, source, description, folder, verified))


@pytest.mark.parametrize("kind", TAKEN)
@pytest.mark.parametrize("given", [FRAME, ROWS], ids=["columns", "an array"])
def test_every_kind_of_file_answers_as_with_mlflow(kind: str, given: Any, tmp_path: Path) -> None:
    task, make = TAKEN[kind]
    source = kept(make(), tmp_path, given)
    artefact = stored(source, tmp_path)
    card = artefact.card
    assert (card.task, set(card.files)) == (task, {FileKind.ONNX})
    assert card.verification[FileKind.ONNX].max_abs_difference == pytest.approx(0, abs=1e-6)
    names = FRAME.columns if isinstance(given, pd.DataFrame) else card.feature_names
    body = {"dataframe_split": FRAME[:40].set_axis(list(names), axis=1).to_dict(orient="split")}
    del body["dataframe_split"]["index"]
    mine = ours(artefact, body)["predictions"]
    if card.predicts == "labels":  # where MLflow's own server makes no table of lists of different lengths
        with pytest.raises(ValueError, match="same length"):
            mlflow.pyfunc.load_model(tmp_path / "model").predict(FRAME[:40])
        assert mine == source.model.predict(ROWS[:40]).tolist()
    else:
        assert_near(mine, theirs(str(tmp_path / "model"), body)["predictions"])


def labels_and_all(graph: ModelProto) -> ModelProto:
    """A file whose labels nobody can tell from it."""
    body = graph.graph
    body.node.append(helper.make_node("ArgMax", ["output"], ["position"], axis=1, keepdims=0))
    body.node.append(helper.make_node("Mul", ["position", "seven"], ["label"]))
    body.initializer.append(onnx.numpy_helper.from_array(np.array(7, dtype=np.int64), "seven"))
    body.output.append(helper.make_tensor_value_info("label", TensorProto.INT64, ["batch"]))
    return graph


def with_labels_in_a_column() -> ModelProto:
    graph = net(softmax(), 3, ["batch", 3])
    graph.graph.node.append(helper.make_node("ArgMax", ["output"], ["label"], axis=1))
    graph.graph.output.append(helper.make_tensor_value_info("label", TensorProto.INT64, ["batch", 1]))
    return graph


def of_two_inputs() -> ModelProto:
    graph = net(identity(), 1, ["batch", 1])
    graph.graph.input.append(helper.make_tensor_value_info("other", TensorProto.FLOAT, ["batch", 1]))
    return graph


def with_branch() -> ModelProto:
    branch = helper.make_graph(
        [helper.make_node("Identity", ["logits"], ["chosen"])],
        "branch",
        [],
        [helper.make_tensor_value_info("chosen", TensorProto.FLOAT, None)],
    )
    node = helper.make_node("If", ["always"], ["output"], then_branch=branch, else_branch=branch)
    graph = net([node], 1, ["batch", 1])
    graph.graph.initializer.append(onnx.numpy_helper.from_array(np.array(True), "always"))
    return graph


def with_operator_of_its_own() -> ModelProto:
    graph = net([helper.make_node("Twice", ["logits"], ["output"], domain="my.own")], 1, ["batch", 1])
    graph.opset_import.append(helper.make_opsetid("my.own", 1))
    return graph


def of_doubles() -> ModelProto:
    graph: ModelProto = to_onnx(LinearRegression().fit(ROWS, VALUE), ROWS[:1].astype(np.float64), target_opset=15)
    return graph


REFUSED: dict[str, tuple[Callable[[], ModelProto], str]] = {
    "an operator of its own": (with_operator_of_its_own, "operators that ONNX Runtime has not: my.own:Twice"),
    "a graph within": (with_branch, "graphs within If: export it without loops and branches"),
    "one row at a time": (
        lambda: net(identity(), 1, [1, 1], rows=1),
        "takes 1 rows at a time, no more and no less: export it with a dynamic first axis",
    ),
    "two inputs": (of_two_inputs, r"its inputs are x \(float \[batch, 3\]\), other \(float \[batch, 1\]\), where one"),
    "doubles": (of_doubles, r"its inputs are X \(double \[\?, 3\]\), where one of float32"),
    "logits beside labels": (
        lambda: labels_and_all(net(identity(), 3, ["batch", 3])),
        "3 numbers a row beside labels that are no probabilities",
    ),
    "a value of all rows": (lambda: net(flat(), 1, []), r"its output output is \[\] for 256 rows"),
    "labels in a column": (with_labels_in_a_column, r"its labels label are \[256, 1\] for 256 rows, where \[N\]"),
    "labels of its own": (
        lambda: labels_and_all(net(softmax(), 3, ["batch", 3])),
        "which of its 3 probabilities belongs to which label is nowhere in it",
    ),
}


@pytest.mark.parametrize(("make", "said"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_served_is_refused_with_the_reason(
    make: Callable[[], ModelProto], said: str, tmp_path: Path
) -> None:
    with pytest.raises(UnsupportedModel, match=f"The ONNX file cannot be served: .*{said}"):
        kept(make(), tmp_path, FRAME)


def test_a_tie_is_one_by_the_second_probability() -> None:
    """A softmax of two may give probabilities that are not 1 together, to the last bit."""
    scores = np.array([[0.49999997, 0.5], [0.5, 0.5], [0.49999997, 0.50000006], [0.6, 0.4]], dtype=np.float32)
    model = onnx_models.OnnxClassifier(
        ModelProto(), 1, "output", {"output": "probabilities"}, np.array(["no", "yes"]), answers=lambda _: scores
    )
    assert model.predict(np.zeros((4, 1))).tolist() == ["no", "no", "yes", "no"]


def test_without_a_signature_nobody_knows_how_mlflow_asks(tmp_path: Path) -> None:
    source = kept(net(identity(), 1, ["batch", 1]), tmp_path, None)
    with pytest.raises(UnsupportedModel, match=r"has no signature, .* log it with signature="):
        conversion.describe(source)


def test_a_text_is_nothing_for_numbers(tmp_path: Path) -> None:
    graph = net(identity(), 1, ["batch", 1])
    graph.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(np.ones((1, HIDDEN), np.float32), "w1"))
    graph.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 1
    source = kept(graph, tmp_path, pd.DataFrame({"message": ["one", "two"]}))
    with pytest.raises(UnsupportedModel, match="takes numbers only, its model's signature says text"):
        stored(source, tmp_path)


def test_a_logged_file_is_imported_where_no_pickle_is(log_model: Callable[..., str], own_store: Path) -> None:
    graph = net(softmax(), 3, ["batch", 3])
    uri = log_model("onnx", graph, signature=mlflow.models.infer_signature(FRAME))
    order = ImportOrder(uri, "v1", model="stranger", formats=Formats.WITHOUT_CODE)
    artefact = import_version(order).artefact
    assert artefact.card.source.flavor == "onnx"
    wanted: NDArray[Any] = mlflow.pyfunc.load_model(uri).predict(FRAME)["output"].to_numpy().reshape(-1, 3)
    mine = ours(artefact, {"instances": FRAME.to_numpy().tolist(), "params": {"predict_method": "predict_proba"}})
    np.testing.assert_allclose(mine["predictions"], wanted, rtol=1e-5)
