"""ONNX graphs as a server takes them: what their ends are called, and tools that change them in place."""

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, numpy_helper

INPUT = "input"
ROUNDED = "input_rounded"
"""The input where a graph of float64 makes float32 of it, or of some of its columns."""
THRESHOLDS = "nodes_values"
AS_TENSOR = "_as_tensor"
"""What the name of an attribute ends with whose numbers are float64."""
PROBABILITIES = "probabilities"
VALUE = "value"
OPSET = 15
IR = 8
"""The version of ONNX's own format that came with these operators."""
ML_OPSET = 1
"""The tree and scaler operators have not changed since, and every ONNX Runtime has it."""
WIDE_ML_OPSET = 3
"""The same for graphs that take float64: since then trees have thresholds of float64."""


def rename(body: Any, old: str, new: str) -> None:
    if old == new:
        return
    if any(new in (*node.input, *node.output) for node in body.node):
        rename(body, new, f"{new}_inner")
    for item in body.initializer:
        item.name = new if item.name == old else item.name
    for node in body.node:
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]


def set_apart(body: Any, prefix: str) -> None:
    """Let the names of all tensors begin with a prefix, in place, so that none is one of those that are added here."""

    def named(name: str) -> str:
        return f"{prefix}{name}" if name else name  # an input that is left out has none

    for node in body.node:
        node.input[:], node.output[:] = map(named, node.input), map(named, node.output)
    for item in (*body.input, *body.output, *body.initializer):
        item.name = named(item.name)
    for item in body.sparse_initializer:
        item.values.name = named(item.values.name)
    del body.value_info[:]


def shorten_names(body: Any) -> None:
    """Let all that only the graph itself knows by name have a number for a name, in place."""
    short: dict[str, str] = {item.name: item.name for item in (*body.input, *body.output)} | {"": ""}
    free = (str(number) for number in itertools.count() if str(number) not in short)

    def shortened(name: str) -> str:
        return short[name] if name in short else short.setdefault(name, next(free))

    for node in body.node:
        node.ClearField("name")
        node.input[:], node.output[:] = map(shortened, node.input), map(shortened, node.output)
    for item in body.initializer:
        item.name = shortened(item.name)
    del body.value_info[:]


def widen(body: Any, output: str, columns: int) -> None:
    """Let an output have all its columns that is reshaped into one, as skl2onnx leaves several values of a network."""
    constants = {item.name: numpy_helper.to_array(item).tolist() for item in body.initializer}
    for node in body.node:
        if output in node.output and node.op_type == "Reshape" and constants.get(node.input[1]) == [-1, 1]:
            node.input[1] = f"{output}_shape"
            shape = np.array([-1, columns], dtype=np.int64)
            body.initializer.append(numpy_helper.from_array(shape, node.input[1]))


def prune(body: Any, output: str) -> None:
    """Drop the nodes and constants that do not lead to the output."""
    needed, kept = {output}, []
    for node in reversed(body.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
    constants = [item for item in body.initializer if item.name in needed]
    del body.node[:], body.initializer[:]
    body.node.extend(reversed(kept))
    body.initializer.extend(constants)


def thresholds_of(node: NodeProto) -> NDArray[np.float64]:
    """The thresholds of an operator's trees, leaves among them."""
    for item in node.attribute:
        if item.name == THRESHOLDS + AS_TENSOR:
            return np.array(numpy_helper.to_array(item.t), dtype=np.float64)
        if item.name == THRESHOLDS:
            return np.array(item.floats, dtype=np.float64)
    raise ValueError(f"{node.op_type} has no thresholds")


def set_thresholds(node: NodeProto, values: NDArray[np.float64]) -> None:
    """Put others in their place, in the precision that they have."""
    for item in node.attribute:
        if item.name == THRESHOLDS + AS_TENSOR:
            item.t.CopyFrom(numpy_helper.from_array(values, THRESHOLDS))
        elif item.name == THRESHOLDS:
            item.floats[:] = values.astype(np.float32).tolist()
