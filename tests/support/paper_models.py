"""Real model files for cards that exist only on paper: a row's score depends on its first value alone."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from configuration.settings import EngineChoice
from runners.artefacts.artefact import Artefact
from runners.artefacts.card import Card, FileKind, Task, write_card
from runners.artefacts.integrity import describe_file
from runners.artefacts.scores import output_of
from runners.engines.engine import example_rows, open_engine
from runners.inputs.datatypes import BYTES


def put_model(folder: Path, card: Card) -> Artefact:
    """Make an artefact in that folder: the card with the file and the scores of a model that it describes."""
    folder.mkdir(parents=True)
    path = folder / FileKind.ONNX.file_name
    onnx.save(_model(card), path)
    content: dict[str, Any] = card.model_dump(exclude_unset=True) | {"files": {FileKind.ONNX: describe_file(path)}}
    described = Card.model_validate(content)
    scores = open_engine(folder, described, EngineChoice.ONNXRUNTIME).predict(example_rows(described))
    content["examples"] = {"rows": card.examples.rows, "scores": scores.tolist()}
    finished = Card.model_validate(content)
    write_card(finished, folder)
    return Artefact(card.version, f"{card.model}:{card.version}", folder, finished)


def _model(card: Card) -> onnx.ModelProto:
    """For a text, the score is the same whatever it says: `first` is as large for each."""
    text = card.input_datatype == BYTES
    classes = {Task.BINARY: 2}.get(card.task, card.scores_per_row)
    name = output_of(card.task)
    taken, width = (TensorProto.STRING, 1) if text else (TensorProto.FLOAT, len(card.feature_names))
    constants: dict[str, NDArray[Any]] = {
        "zero": np.array([0], dtype=np.int64),
        "one": np.array([1], dtype=np.int64),
        "per_class": np.linspace(0, 1, classes, dtype=np.float32)[None, :],
        "per_value": np.arange(1, classes + 1, dtype=np.float32)[None, :],
    }
    nodes = [
        helper.make_node("Shape", ["input"], ["shape"]),
        helper.make_node("Slice", ["shape", "zero", "one"], ["rows"]),
        helper.make_node("Concat", ["rows", "one"], ["column"], axis=0),
        helper.make_node("ConstantOfShape", ["column"], ["first"], value=helper.make_tensor("v", 1, [1], [0.5])),
    ]
    if not text:
        nodes = [helper.make_node("Gather", ["input", "zero"], ["first"], axis=1)]
    if not card.task.has_probabilities:
        nodes.append(helper.make_node("MatMul", ["first", "per_value"], [name]))
    else:
        nodes.append(helper.make_node("MatMul", ["first", "per_class"], ["scaled"]))
        nodes.append(helper.make_node("Softmax", ["scaled"], [name], axis=1))
    graph = helper.make_graph(
        nodes,
        "paper",
        [helper.make_tensor_value_info("input", taken, [None, width])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, classes])],
        [onnx.numpy_helper.from_array(value, key) for key, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
