"""A real model that loops as often as a row says: a hundred million million times, if it says so."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from runners.artefacts.card import Card, FileKind, Task
from runners.artefacts.integrity import describe_file
from runners.inputs.rows import Rows
from tests.support.cards import make_card

FOREVER = 1e15


def looping_artefact(folder: Path) -> Card:
    """Put the model into a folder; a row's score is its first value plus a half, after as many rounds as its second."""
    path = folder / FileKind.ONNX.file_name
    onnx.save(_model(), path)
    examples = {"rows": [[1.0, 2.0], [0.25, -3.0]], "scores": [1.5, 0.75]}
    return make_card(Task.REGRESSION, examples=examples, files={"onnx": describe_file(path).model_dump()})


def row(value: float, rounds: float = 0.0) -> Rows:
    return np.array([[value, rounds]], dtype=np.float32)


def _model() -> Any:
    def constant(name: str, value: Any) -> Any:
        return numpy_helper.from_array(np.array(value), name)

    node, described = helper.make_node, helper.make_tensor_value_info
    body = helper.make_graph(
        [node("Identity", ["going"], ["goes_on"]), node("Add", ["sum", "nothing"], ["next_sum"])],
        "round",
        [
            described("round", TensorProto.INT64, []),
            described("going", TensorProto.BOOL, []),
            described("sum", TensorProto.FLOAT, None),
        ],
        [described("goes_on", TensorProto.BOOL, []), described("next_sum", TensorProto.FLOAT, None)],
        [constant("nothing", np.float32(0))],
    )
    graph = helper.make_graph(
        [
            node("Gather", ["input", "one"], ["rounds_of_rows"], axis=1),
            node("ReduceMax", ["rounds_of_rows"], ["most"], keepdims=0),
            node("Cast", ["most"], ["rounds"], to=TensorProto.INT64),
            node("Loop", ["rounds", "yes", "half"], ["looped"], body=body),
            node("Gather", ["input", "first"], ["values"], axis=1),
            node("Add", ["values", "looped"], ["value"]),
        ],
        "looping",
        [described("input", TensorProto.FLOAT, [None, 2])],
        [described("value", TensorProto.FLOAT, [None, 1])],
        [
            constant("first", np.array([0], np.int64)),
            constant("one", np.array([1], np.int64)),
            constant("yes", True),
            constant("half", np.float32(0.5)),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
