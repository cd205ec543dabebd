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

from configuration.settings import EngineChoice
from runners.artefacts.artefact import Artefact
from runners.artefacts.card import FileKind, Task
from runners.engines.engine import open_engine
from shokado.lifecycle.errors import UnsupportedModel, VerificationFailed
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
    description = conversion.candidates(source, conversion.describe(source))[0]
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


def of_halves() -> ModelProto:
    graph = net(identity(), 1, ["batch", 1])
    graph.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    graph.graph.node.insert(0, helper.make_node("Cast", ["x"], ["wide"], to=TensorProto.FLOAT))
    graph.graph.node[1].input[0] = "wide"
    return graph


def small(nodes: list[Any], inputs: dict[str, int], constants: list[Any] = []) -> ModelProto:  # noqa: B006
    """A file of a column for each input, by the kind of its elements."""
    body = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info(name, kind, ["batch", 1]) for name, kind in inputs.items()],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", 1])],
        constants,
    )
    opsets = [helper.make_opsetid("", 15), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(body, opset_imports=opsets, ir_version=8)


def of_words() -> ModelProto:
    nodes = [
        helper.make_node(
            "Tokenizer",
            ["port"],
            ["words"],
            domain="com.microsoft",
            mark=0,
            mincharnum=1,
            pad_value="",
            separators=[" "],
        ),
        helper.make_node(
            "LabelEncoder", ["words"], ["found"], domain="ai.onnx.ml", keys_strings=["s"], values_floats=[1.0]
        ),
        helper.make_node("ReduceMax", ["found"], ["output"], axes=[2], keepdims=0),
    ]
    graph = small(nodes, {"port": TensorProto.STRING})
    graph.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return graph


def of_two_texts() -> ModelProto:
    nodes = [
        helper.make_node("Equal", ["port", "other"], ["same"]),
        helper.make_node("Cast", ["same"], ["output"], to=TensorProto.FLOAT),
    ]
    graph = small(nodes, {"port": TensorProto.STRING, "other": TensorProto.STRING})
    graph.opset_import[0].version = 19
    graph.ir_version = 9
    return graph


def of_remainders() -> ModelProto:
    """A number of a whole one of 32 bits, which a cast makes of any number."""
    nodes = [
        helper.make_node("Mod", ["count", "seven"], ["rest"]),
        helper.make_node("Cast", ["rest"], ["output"], to=TensorProto.FLOAT),
    ]
    seven = onnx.numpy_helper.from_array(np.array(7, dtype=np.int32), "seven")
    return small(nodes, {"count": TensorProto.INT32}, [seven])


def test_a_whole_number_beyond_32_bits_has_no_score_where_the_file_takes_no_others(tmp_path: Path) -> None:
    source = kept(of_remainders(), tmp_path, pd.DataFrame({"count": np.array([1, 2**31 - 5, 9], dtype=np.int32)}))
    artefact = stored(source, tmp_path)
    assert artefact.card.takes_float64
    engine = open_engine(artefact.folder, artefact.card, EngineChoice.AUTO)
    rows = np.array([[5], [2**31 - 1], [-(2**31) + 1], [2**31], [2**31 + 5], [-(2**40)]], dtype=np.float64)
    expected = [*np.fmod(rows[:3, 0], 7) % 7, np.nan, np.nan, np.nan]
    np.testing.assert_array_equal(engine.predict(rows), expected)


def named(inputs: list[str], output: str) -> ModelProto:
    nodes = [
        helper.make_node("Concat", inputs, ["joined"], axis=1),
        helper.make_node("ReduceSum", ["joined", "axes"], [output], keepdims=1),
    ]
    axes = onnx.numpy_helper.from_array(np.array([1]), "axes")
    graph = small(nodes, dict.fromkeys(inputs, TensorProto.FLOAT), [axes])
    graph.graph.output[0].name = output
    return graph


@pytest.mark.parametrize(
    ("inputs", "output"),
    [(["input", "value", "probabilities"], "sum"), (["value", "width", "age"], "input"), (["shokado_gather_0"], "x")],
)
def test_a_file_may_call_its_tensors_anything(inputs: list[str], output: str, tmp_path: Path) -> None:
    frame = pd.DataFrame(ROWS[:, : len(inputs)], columns=inputs)
    artefact = stored(kept(named(inputs, output), tmp_path, frame), tmp_path)
    served = open_engine(artefact.folder, artefact.card, EngineChoice.AUTO).predict(frame.to_numpy())
    np.testing.assert_allclose(served, frame.sum(axis=1), rtol=1e-5, atol=1e-6)


def centred() -> ModelProto:
    """A network that takes the mean of all rows that it is given from each."""
    graph = net(identity(), 1, ["batch", 1])
    graph.graph.node.insert(0, helper.make_node("ReduceMean", ["x"], ["mean"], axes=[0], keepdims=1))
    graph.graph.node.insert(1, helper.make_node("Sub", ["x", "mean"], ["centred"]))
    graph.graph.node[2].input[0] = "centred"
    return graph


def dropping_out() -> ModelProto:
    graph = net([helper.make_node("Dropout", ["logits", "ratio", "trains"], ["output"])], 1, ["batch", 1])
    for name, value in {"ratio": np.array(0.5, dtype=np.float32), "trains": np.array(True)}.items():
        graph.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    return graph


@pytest.mark.parametrize(
    ("make", "says"),
    [(centred, "otherwise alone than among others"), (dropping_out, r"otherwise each time: .* model\.eval\(\)")],
)
def test_what_does_not_score_each_row_for_itself_is_told(
    make: Callable[[], ModelProto], says: str, tmp_path: Path
) -> None:
    with pytest.raises(VerificationFailed, match=says):
        stored(kept(make(), tmp_path, FRAME), tmp_path)


def of_positions() -> ModelProto:
    table = onnx.numpy_helper.from_array(np.ones((4, 1), dtype=np.float32), "table")
    nodes = [
        helper.make_node("Gather", ["table", "at"], ["rows"]),
        helper.make_node("Reshape", ["rows", "column"], ["output"]),
    ]
    column = onnx.numpy_helper.from_array(np.array([-1, 1]), "column")
    return small(nodes, {"at": TensorProto.INT64}, [table, column])


REFUSED: dict[str, tuple[Callable[[], ModelProto], str]] = {
    "an operator of its own": (with_operator_of_its_own, "operators that ONNX Runtime has not: my.own:Twice"),
    "a graph within": (with_branch, "graphs within If: export it without loops and branches"),
    "one row at a time": (
        lambda: net(identity(), 1, [1, 1], rows=1),
        "takes 1 rows at a time, no more and no less: export it with a dynamic first axis",
    ),
    "two inputs": (of_two_inputs, r"its input x \(float \[batch, 3\]\) has 3 columns beside other inputs"),
    "halves": (of_halves, r"its input x \(float16 \[batch, 3\]\) is no table of columns"),
    "a text of words": (of_words, r"its texts port go into Tokenizer"),
    "two texts that are compared": (of_two_texts, r"its texts port go into Equal"),
    "numbers of rows": (of_positions, r"does not answer all rows of its columns: .*out of (data )?bounds"),
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
        ModelProto(), (), "output", {"output": "probabilities"}, np.array(["no", "yes"]), answers=lambda _: scores
    )
    assert model.predict(np.zeros((4, 1))).tolist() == ["no", "no", "yes", "no"]


def test_without_a_signature_nobody_knows_how_mlflow_asks(tmp_path: Path) -> None:
    source = kept(net(identity(), 1, ["batch", 1]), tmp_path, None)
    with pytest.raises(UnsupportedModel, match=r"has no signature, .* log it with signature="):
        conversion.describe(source)


def test_doubles_keep_their_digits(tmp_path: Path) -> None:
    """Rows are float64 where the file takes those, and its answers are those of scikit-learn."""
    rows = 1.7e9 + ROWS.astype(np.float64) * 60
    model = LinearRegression().fit(rows - 1.7e9, VALUE)
    model.intercept_ -= float(model.coef_ @ np.full(3, 1.7e9))
    frame = pd.DataFrame(rows, columns=FRAME.columns)
    source = kept(to_onnx(model, rows[:1], target_opset=15), tmp_path, frame)
    artefact = stored(source, tmp_path)
    assert artefact.card.takes_float64
    body = {"dataframe_split": {"columns": list(frame.columns), "data": rows[:40].tolist()}}
    mine = ours(artefact, body)["predictions"]
    assert_near(mine, theirs(str(tmp_path / "model"), body)["predictions"])
    np.testing.assert_allclose([row["variable"] for row in mine], model.predict(rows[:40]), atol=1e-4)


@pytest.mark.parametrize("shape", [["batch", 1], ["batch"]], ids=["columns", "vectors"])
def test_columns_of_several_inputs_come_by_their_names(shape: list[Any], tmp_path: Path) -> None:
    """MLflow's own server gives such a file neither columns [N, 1] nor texts of a frame, and fails."""
    frame = pd.DataFrame({"port": ["S", "C", "?"] * 20, "age": range(60), "sold": [True, False] * 30})
    artefact = stored(kept(of_columns(shape), tmp_path, frame), tmp_path)
    age, port, sold = artefact.card.features
    assert (port.type, port.levels, port.other) == ("category", ("C", "Q", "S"), True)
    assert (age.type, sold.type) == ("integer", "boolean")
    body = {"dataframe_split": {"columns": list(frame.columns), "data": frame.to_numpy().tolist()}}
    wanted = frame.port.map({"C": 10.0, "Q": 20.0, "S": 30.0}).fillna(-1) + frame.age + 0.5 * frame.sold
    np.testing.assert_allclose(ours(artefact, body)["predictions"], wanted)


def test_vectors_of_numbers_answer_as_with_mlflow(tmp_path: Path) -> None:
    graph = small([helper.make_node("Sub", ["a", "b"], ["output"])], dict.fromkeys("ab", TensorProto.FLOAT))
    for item in (*graph.graph.input, *graph.graph.output):
        del item.type.tensor_type.shape.dim[1:]
    frame = pd.DataFrame({"a": [1.5, 2.5, 3.0], "b": [0.25, -4.0, 9.0]})
    artefact = stored(kept(graph, tmp_path, frame), tmp_path)
    body = {"dataframe_split": {"columns": ["b", "a"], "data": frame[["b", "a"]].to_numpy().tolist()}}
    mine = ours(artefact, body)["predictions"]
    assert_near(mine, theirs(str(tmp_path / "model"), body)["predictions"])
    assert mine == [{"output": 1.25}, {"output": 6.5}, {"output": -6.0}]


def of_columns(shape: list[Any]) -> ModelProto:
    """A category, a whole number and a truth value, each an input of its own, added up."""
    constants = [onnx.numpy_helper.from_array(np.array(0.5, dtype=np.float32), "half")]
    nodes = [
        helper.make_node(
            "LabelEncoder",
            ["port"],
            ["encoded"],
            domain="ai.onnx.ml",
            keys_strings=["C", "Q", "S"],
            values_floats=[10.0, 20.0, 30.0],
            default_float=-1.0,
        ),
        helper.make_node("Cast", ["age"], ["years"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["sold"], ["one"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["one", "half"], ["share"]),
        helper.make_node("Sum", ["encoded", "years", "share"], ["output"]),
    ]
    graph = small(nodes, {"age": TensorProto.INT64, "port": TensorProto.STRING, "sold": TensorProto.BOOL}, constants)
    for item in (*graph.graph.input, *graph.graph.output):
        del item.type.tensor_type.shape.dim[len(shape) :]
    return graph


@pytest.mark.parametrize(
    ("column", "said"),
    [
        ({"port": [1.5, 2.0, 3.0]}, "port is of the type float by its signature, and category in the file"),
        ({"age": [1.5, 2.0, 3.0]}, "age is of the type float by its signature, and integer in the file"),
        ({"sold": [1, 0, 1]}, "sold is of the type integer by its signature, and boolean in the file"),
        ({"sold": ["a", "b", "c"]}, "sold is of the type text by its signature, and boolean in the file"),
    ],
)
def test_a_signature_of_other_types_is_refused(column: dict[str, Any], said: str, tmp_path: Path) -> None:
    frame = pd.DataFrame({"port": ["S", "C", "Q"], "age": [1, 2, 3], "sold": [True, False, True]}).assign(**column)
    source = kept(of_columns(["batch", 1]), tmp_path, frame)
    with pytest.raises(UnsupportedModel, match=said):
        conversion.describe(source)


def test_a_text_is_nothing_for_numbers(tmp_path: Path) -> None:
    graph = net(identity(), 1, ["batch", 1])
    graph.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(np.ones((1, HIDDEN), np.float32), "w1"))
    graph.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 1
    source = kept(graph, tmp_path, pd.DataFrame({"message": ["one", "two"]}))
    with pytest.raises(UnsupportedModel, match="message is of the type text by its signature, and float in the file"):
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
