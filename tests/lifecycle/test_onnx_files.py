"""ONNX files that no registry has: what is known of their columns and outputs, and what is asked for."""

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from runners.artefacts.artefact import Artefact
from runners.artefacts.card import FileKind, Task
from shokado.lifecycle.errors import (
    FeaturesUnknown,
    LifecycleError,
    SourceNotFound,
    UnsupportedModel,
    VerificationFailed,
    VersionTaken,
)
from shokado.lifecycle.importing import onnx_files
from shokado.lifecycle.importing.column_names import parsed_columns
from shokado.lifecycle.importing.onnx_files import OnnxFile
from shokado.lifecycle.importing.output_meaning import OutputMeaning
from shokado.lifecycle.importing.version import ImportOrder, ImportOutcome, WhenTaken, import_version
from shokado.lifecycle.serving.bringing import bring
from shokado.lifecycle.serving.order import ServeOrder
from tests.support.invocations import ours

WEIGHTS = np.array([[1.0, -2.0], [0.5, 0.25], [-1.0, 3.0]], dtype=np.float32)
NAMES = ["width", "depth", "age"]
ROWS = [[1.0, 2.0, 3.0], [4.0, 5.0, -60.0], [-7.0, 8.0, 9.0]]
SAVE = """
import sys, bentoml, onnx
names = {"feature_names": ["width", "depth", "age"], "classes": ["no", "yes"]}
print(bentoml.onnx.save_model("churn", onnx.load(sys.argv[1]), metadata=names).tag)
"""


def linear(width: int = 1, last: str = "Identity", **metadata: Any) -> ModelProto:
    """Three columns, added up by `WEIGHTS`, with an operator behind them."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["sums"]), helper.make_node(last, ["sums"], ["output"])]
    body = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", width])],
        [numpy_helper.from_array(np.ascontiguousarray(WEIGHTS[:, :width]), "w")],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    graph = helper.make_model(body, opset_imports=opsets, ir_version=8, producer_name="by hand")
    helper.set_model_props(graph, {name: json.dumps(value) for name, value in metadata.items()})
    return graph


@pytest.fixture
def path(tmp_path: Path, own_store: Path) -> Path:
    """A file of a value, which does not say what its columns are called; there is an empty store."""
    onnx.save(linear(), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def imported(path: Path, columns: str = "width,depth,age", table: Path | None = None, **said: Any) -> Artefact:
    file = OnnxFile(str(path), parsed_columns(columns), OutputMeaning(**said), table)
    order = ImportOrder(file.uri, "v1", "churn", WhenTaken.REPLACE, reference=table, file=file)
    return import_version(order).artefact


def test_a_file_is_compared_with_what_shares_nothing_with_onnx_runtime(path: Path) -> None:
    artefact = imported(path)
    card = artefact.card
    assert (card.task, list(card.feature_names), card.source.flavor) == (Task.REGRESSION, NAMES, "onnx file")
    assert card.source.uri.startswith("file:model.onnx@")
    assert card.source.framework == f"onnx of by hand, compared with onnx.reference {onnx.__version__}"
    assert card.verification[FileKind.ONNX].rows >= 1000
    wanted = (np.array(ROWS, dtype=np.float32) @ WEIGHTS[:, :1]).ravel()
    np.testing.assert_allclose(ours(artefact, {"instances": ROWS})["predictions"], wanted, rtol=1e-6)


def test_what_the_evaluator_does_not_know_is_said_to_be_compared_with_onnx_runtime_alone(path: Path) -> None:
    graph = linear()
    graph.graph.node[1].CopyFrom(helper.make_node("BiasGelu", ["sums", "b"], ["output"], domain="com.microsoft"))
    graph.graph.initializer.append(numpy_helper.from_array(np.ones(1, dtype=np.float32), "b"))
    onnx.save(graph, path)
    assert imported(path).card.source.framework.startswith("onnx of by hand, compared with onnxruntime ")


def test_what_the_evaluator_answers_otherwise_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    others = linear()
    others.graph.initializer[0].CopyFrom(numpy_helper.from_array(WEIGHTS[:, 1:] * np.float32(1), "w"))
    monkeypatch.setattr("onnx.reference.ReferenceEvaluator", lambda *_, **__: ReferenceEvaluator(others))
    with pytest.raises(VerificationFailed, match=r"the evaluator of the onnx package answers otherwise.*mlflow\.onnx"):
        imported(path)


def test_names_that_nobody_says_are_asked_for_with_the_command(path: Path) -> None:
    with pytest.raises(FeaturesUnknown, match=r"takes 3 columns, and does not say what they are called: name") as asked:
        imported(path, columns="")
    said = f'shokado models import {path} --features "<names, with commas>" --name churn --as v1'
    assert asked.value.next_command == said


def test_the_files_metadata_say_names_and_classes(path: Path) -> None:
    onnx.save(linear(2, "Softmax", feature_names=NAMES, classes=["no", "yes"]), path)
    card = imported(path, columns="").card
    assert (list(card.feature_names), card.task, card.classes) == (NAMES, Task.BINARY, ("no", "yes"))
    onnx.save(linear(2, "Softmax", feature_names="width, depth, age"), path)
    with pytest.raises(UnsupportedModel, match=r"metadata feature_names of .* are no JSON list of names"):
        imported(path, columns="")


def test_a_table_of_its_columns_says_names_types_and_gaps(path: Path, tmp_path: Path) -> None:
    frame = pd.DataFrame({"width": [1.5, 2.5, 3.5], "depth": [True, False, True], "age": [30, 40, 50]})
    frame.to_parquet(tmp_path / "rows.parquet")
    artefact = imported(path, columns="", table=tmp_path / "rows.parquet")
    assert [(each.name, each.type) for each in artefact.card.features] == [
        ("width", "float"),
        ("depth", "boolean"),
        ("age", "integer"),
    ]
    assert artefact.card.reference is not None
    frame.assign(label=1).to_csv(tmp_path / "rows.csv", index=False)
    with pytest.raises(FeaturesUnknown, match=r"called, and .*rows.csv has 4 columns: name them with --features"):
        imported(path, columns="", table=tmp_path / "rows.csv")
    artefact = imported(path, columns="width:integer,depth,age", table=tmp_path / "rows.csv")
    assert [each.type for each in artefact.card.features] == ["integer", "boolean", "integer"]


@pytest.mark.parametrize(
    ("width", "last", "said", "task", "classes"),
    [
        (1, "Sigmoid", {}, Task.REGRESSION, ()),
        (1, "Sigmoid", {"classes": ("no", "yes")}, Task.BINARY, ("no", "yes")),
        (1, "Identity", {"is_logits": True}, Task.BINARY, (0, 1)),
        (2, "Identity", {}, Task.MULTIOUTPUT, ()),
        (2, "Identity", {"is_logits": True, "classes": (3, 7)}, Task.BINARY, (3, 7)),
        (2, "Softmax", {"task": "classification"}, Task.BINARY, (0, 1)),
    ],
)
def test_outputs_mean_what_is_said(
    width: int, last: str, said: dict[str, Any], task: Task, classes: tuple[Any, ...], path: Path
) -> None:
    onnx.save(linear(width, last), path)
    artefact = imported(path, **said)
    assert (artefact.card.task, artefact.card.classes) == (task, classes)
    if task is Task.BINARY:
        sums = np.array(ROWS) @ WEIGHTS[:, :width].astype(np.float64)
        is_second = sums[:, 1] > sums[:, 0] if width == 2 else sums[:, 0] > 0
        labels = [classes[int(second)] for second in is_second]
        assert ours(artefact, {"instances": ROWS})["predictions"] == labels


@pytest.mark.parametrize(
    ("width", "last", "said", "refused"),
    [
        (
            1,
            "Identity",
            {"classes": ("no", "yes")},
            "called a model of classification, and answers as one of .*--logits",
        ),
        (2, "Softmax", {"is_logits": True}, "gives probabilities, and no logits"),
        (2, "Softmax", {"task": "regression"}, "called a model of regression, and answers as one of binary"),
        (2, "Softmax", {"classes": ("a", "b", "c")}, "3 classes are named, and the model has 2 outputs"),
        (2, "Softmax", {"classes": ("a", "b"), "task": "regression"}, "A regression has neither classes nor logits"),
    ],
)
def test_what_is_said_of_outputs_must_fit(
    width: int, last: str, said: dict[str, Any], refused: str, path: Path
) -> None:
    onnx.save(linear(width, last), path)
    with pytest.raises(UnsupportedModel, match=refused):
        imported(path, **said)


def test_labels_of_the_file_get_the_names_that_are_said(path: Path) -> None:
    graph = linear(2, "Softmax")
    graph.graph.node.append(helper.make_node("ArgMax", ["output"], ["label"], axis=1, keepdims=0))
    graph.graph.output.append(helper.make_tensor_value_info("label", TensorProto.INT64, ["batch"]))
    onnx.save(graph, path)
    artefact = imported(path, classes=("no", "yes"))
    assert ours(artefact, {"instances": ROWS})["predictions"] == ["yes", "no", "yes"]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ("width,depth", "2 features are named, and .*model.onnx takes 3 columns"),
        ("width,depth,depth", "--features names a column twice"),
        ("width,depth,age:date", "--features has 'age:date': a name, or name:type with float, integer"),
        ("width,,age", "--features has '': a name"),
        ("width,depth,age:category", "age is of the type text by its signature, and float in the file"),
    ],
)
def test_names_must_fit(columns: str, said: str, path: Path) -> None:
    with pytest.raises(UnsupportedModel, match=said):
        imported(path, columns=columns)


def test_a_version_is_known_by_the_content_and_by_what_is_said(path: Path) -> None:
    def uri(columns: str = "a,b,c", **said: Any) -> str:
        return OnnxFile(str(path), parsed_columns(columns), OutputMeaning(**said)).uri

    found = [uri(), uri("a,b,d"), uri("a,b,c:integer"), uri(is_logits=True), uri(classes=("a", "b"))]
    onnx.save(linear(last="Relu"), path)
    found.append(uri())
    # Weights of a file of their own count as well.
    onnx.save(linear(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    found.append(uri())
    (path.parent / "weights.bin").write_bytes(np.ones_like(WEIGHTS[:, :1]).tobytes())
    found.append(uri())
    assert len(set(found)) == len(found)
    assert uri() == uri()


def test_the_same_file_is_not_imported_twice(path: Path) -> None:
    file = OnnxFile(str(path), parsed_columns("a,b,c"))
    order = ImportOrder(file.uri, "v1", "churn", file=file)
    assert import_version(order).outcome is ImportOutcome.IMPORTED
    assert import_version(order).outcome is ImportOutcome.ALREADY_THERE
    other = OnnxFile(str(path), parsed_columns("a,b,d"))
    with pytest.raises(VersionTaken) as taken:
        import_version(ImportOrder(other.uri, "v1", "churn", file=other))
    said = f"shokado models import {path} --features a,b,d --name churn --as <label>"
    assert taken.value.next_command == said


@pytest.mark.parametrize("content", [b"", b"no protobuf", b"\x08\x08"])
def test_what_is_no_onnx_file_is_said(content: bytes, path: Path) -> None:
    path.write_bytes(content)
    with pytest.raises(UnsupportedModel, match=r"model.onnx (is no ONNX file|cannot be read as an ONNX file)"):
        imported(path)


def test_weights_outside_of_the_folder_are_not_read(path: Path) -> None:
    onnx.save(linear(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    graph = onnx.load(path, load_external_data=False)
    graph.graph.initializer[0].external_data[0].value = "../weights.bin"
    path.write_bytes(graph.SerializeToString())
    (path.parent.parent / "weights.bin").write_bytes(WEIGHTS[:, :1].tobytes())
    with pytest.raises(UnsupportedModel, match="cannot be read as an ONNX file"):
        imported(path)


def test_a_file_that_is_not_there_is_said(own_store: Path) -> None:
    with pytest.raises(SourceNotFound, match=r"There is no file other.onnx"):
        OnnxFile("other.onnx")
    with pytest.raises(SourceNotFound, match=r"BentoML's store .* has no churn:v3"):
        OnnxFile("churn:v3")


def test_addresses_of_files_are_told_from_those_of_a_registry() -> None:
    for address in ("model.onnx", "./a b/Model.ONNX", "churn:v3", "churn:latest"):
        assert onnx_files.is_named(address)
    for address in ("models:/churn/3", "models:/net.onnx", "runs:/0a1b/net.onnx", "model.pt", "churn", "Churn:v3"):
        assert not onnx_files.is_named(address)


def test_a_tag_of_bentomls_store_is_a_source(path: Path, python: Callable[..., CompletedProcess[str]]) -> None:
    onnx.save(linear(2, "Softmax"), path)
    tag = python("-c", SAVE, str(path)).stdout.strip()
    for address in (tag, "churn:latest"):
        file = OnnxFile(address)
        assert (file.tag, file.model_name) == (tag, "churn")
    card = import_version(ImportOrder(file.uri, "v1", file=file)).artefact.card
    assert card.source.uri.startswith(f"bentoml:{tag}@")
    assert (card.model, list(card.feature_names), card.classes) == ("churn", NAMES, ("no", "yes"))
    with pytest.raises(UnsupportedModel, match="churn:v1 is a version of Shokado's already") as already:
        OnnxFile("churn:v1")
    assert already.value.next_command == "shokado serve churn:v1"


def test_what_others_have_saved_in_bentomls_store_is_refused(own_store: Path) -> None:
    folder = own_store / "models" / "churn" / "v3"
    folder.mkdir(parents=True)
    (folder / "model.yaml").write_text("module: bentoml.sklearn\n")
    with pytest.raises(UnsupportedModel, match=r"churn:v3 was saved with bentoml.sklearn, and only what bentoml.onnx"):
        OnnxFile("churn:v3")


def test_files_and_versions_of_the_store_are_served_side_by_side(path: Path) -> None:
    """No registry is opened for them."""
    named = path.with_name("second.onnx")
    onnx.save(linear(last="Relu", feature_names=NAMES), named)
    imported(path)
    order = ServeOrder(("churn:v1", str(named)), model="churn")
    found = bring(order)
    assert [one.artefact.tag for one in found] == ["churn:v1", "churn:second"]
    assert [one.imported.outcome for one in found] == [ImportOutcome.ALREADY_THERE, ImportOutcome.IMPORTED]
    assert {one.imported.outcome for one in bring(order)} == {ImportOutcome.ALREADY_THERE}
    with pytest.raises(LifecycleError, match="churn:v1 is a version of churn, and not of loan"):
        bring(ServeOrder(("churn:v1",), model="loan"))
    with pytest.raises(FeaturesUnknown):
        bring(ServeOrder((str(path),), model="churn"))
