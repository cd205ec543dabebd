"""Compaction: a network whose layers are whole numbers goes in, the same with fewer bytes in its file comes out.

ONNX Runtime makes float32 of what is stored smaller when it opens the file, as it does with all that depends on
constants alone; so nothing of this takes time when rows are scored (decision 42).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnxruntime import InferenceSession

from shokado.lifecycle.importing.graphs import INPUT, prune, shorten_names

STEPS = 127
"""Whole numbers of eight bits on either side of 0."""
SMALL_ERROR = 0.02
"""Mean error of a first layer's sums, in their standard deviations, up to which whole numbers do for its weights. It is
.006 where columns are scaled, and without bound where one varies little far from 0."""
PROBED_ROWS = 1000
"""Reference rows by which that is told."""


def compact(network: ModelProto, layers: list[str], first: str | None, rows: NDArray[np.float32]) -> None:
    """Change the network in place.

    Args:
        layers: names of the nodes that multiply by weights, in the order of the graph.
        first: the one of them that computes in float32.
        rows: reference rows [N, features], as a server packs them.
    """
    # Not the bias of the last one, which may be as large as what is predicted, and is a few numbers.
    coarse = layers[:-1]
    if first is not None:
        layer = next(node for node in network.graph.node if node.name == first)
        if not _round_weights(network, layer, rows[:PROBED_ROWS]):
            coarse.remove(first)
    _halve_biases(network.graph, coarse)
    _drop_zeros(network.graph)
    prune(network.graph, network.graph.output[0].name)
    shorten_names(network.graph)


def _round_weights(network: ModelProto, layer: Any, rows: NDArray[np.float32]) -> bool:
    """Store weights of a layer that computes in float32 as whole numbers, with a scale for each of its columns.

    Answers whether they are precise enough; else they stay as they are.
    """
    body, name = network.graph, layer.input[1]
    weights = _constants(body)[name]
    transposed = any(attribute.name == "transB" and attribute.i for attribute in layer.attribute)
    largest = np.abs(weights).max(axis=0 if transposed else 1, keepdims=True)
    scales = np.where(largest > 0, largest / STEPS, 1).astype(np.float32)
    whole = np.round(weights / scales).astype(np.int8)
    columns = _computed(network, layer.input[0], rows).astype(np.float64)
    exact, rounded = (columns @ (each.T if transposed else each) for each in (weights, whole * scales))
    # Asked this way round because what is not a number is never within any bound.
    if not np.abs(rounded - exact).mean() <= SMALL_ERROR * exact.std(axis=0).mean():
        return False
    body.initializer.append(numpy_helper.from_array(scales, f"{name}_scales"))
    body.node.insert(0, helper.make_node("Mul", [f"{name}_unscaled", f"{name}_scales"], [name]))
    _store(body, name, whole, f"{name}_unscaled")
    return True


def _halve_biases(body: Any, layers: list[str]) -> None:
    """Store as float16, which has 11 bits, what is added to sums of layers, whose weights have 8."""
    constants, sums = _constants(body), {node.output[0] for node in body.node if node.name in layers}
    for node in list(body.node):
        added = list(node.input[2:]) if node.name in layers else []
        if node.op_type == "Add" and sums.intersection(node.input):
            added = list(node.input)
        for name in added:
            bias = constants.pop(name, np.empty(0))
            with np.errstate(over="ignore"):
                halved = bias.astype(np.float16)
            if bias.dtype == np.float32 and np.isfinite(halved).all():
                _store(body, name, halved, name)


def _drop_zeros(body: Any) -> None:
    """Leave out which whole number stands for a weight of 0, where it is 0: no other is meant then."""
    constants = _constants(body)
    for node in body.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in constants:
            zero = constants.get("".join(node.input[2:]))
            if zero is not None and not zero.any():
                del node.input[2:]


def _store(body: Any, name: str, values: NDArray[Any], cast: str) -> None:
    """Put values of another type in a constant's place, and `cast` as what they are as float32."""
    body.initializer.remove(next(item for item in body.initializer if item.name == name))
    body.initializer.append(numpy_helper.from_array(values, f"{name}_stored"))
    body.node.insert(0, helper.make_node("Cast", [f"{name}_stored"], [cast], to=TensorProto.FLOAT))


def _constants(body: Any) -> dict[str, NDArray[Any]]:
    return {item.name: numpy_helper.to_array(item) for item in body.initializer}


def _computed(network: ModelProto, tensor: str, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """What a tensor within the network is, for these rows."""
    if tensor == INPUT:
        return rows
    probe = ModelProto()
    probe.CopyFrom(network)
    probe.graph.output.append(helper.make_tensor_value_info(tensor, TensorProto.FLOAT, None))
    session = InferenceSession(probe.SerializeToString(), providers=["CPUExecutionProvider"])
    values: NDArray[np.float32] = session.run([tensor], {INPUT: rows})[0]
    return values
