"""Weights: a `model.onnx` of float32 goes in, the same network with smaller weights comes out, by ONNX Runtime's tools.

The contract of `model.onnx` (see `importing/conversion.py`) stays: the same input, the same output, both float32.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_dynamic, quantize_static

from shokado.lifecycle.errors import NothingToQuantize
from shokado.lifecycle.importing.graphs import INPUT
from shokado.lifecycle.quantizing.compaction import compact
from shokado.lifecycle.quantizing.quantize_order import Method

TREES = (
    "it consists of trees, which have no weights to quantize that way: they compare rows with thresholds, and a "
    "rounded threshold sends rows to other leaves. Fewer or shallower trees (n_estimators, max_depth) make it smaller "
    "and faster"
)
LAYERS = ("MatMul", "Gemm")
"""Operators that multiply by a matrix of weights, and of which ONNX Runtime has one for whole numbers."""
SMALL_SHARE = 1 / 8
"""Part of all weights up to which the first layer stays as it is. It takes the rows themselves, whose columns have any
range: with one scale for all of them it costs more agreement than all other layers together (decision 42). What is
stored of it are whole numbers all the same."""


def quantize(method: Method, source: Path, target: Path, rows: NDArray[np.float32]) -> None:
    """Write the quantized network to `target`. Raises `NothingToQuantize` where the model has no layers.

    Args:
        rows: reference rows [N, features], as a server packs them.
    """
    graph = onnx.load(source)
    for node in graph.graph.node:
        node.name = node.output[0]  # a graph of other people may have nodes without names
    layers = _layers_of(graph)
    with _quiet():
        match method:
            case Method.INT8:
                _int8(graph, target, rows, layers)
            case Method.INT8_DYNAMIC:
                quantize_dynamic(graph, target, op_types_to_quantize=list(LAYERS), weight_type=QuantType.QInt8)
            case Method.FLOAT16:
                _float16(graph, target, layers)


def _layers_of(graph: ModelProto) -> dict[str, int]:
    """How many weights each layer has, by the node's name, in the order of the graph."""
    sizes = {
        item.name: int(np.prod(item.dims))
        for item in graph.graph.initializer
        if item.data_type == TensorProto.FLOAT and len(item.dims) == 2
    }
    layers = {
        node.name: sizes[node.input[1]]
        for node in graph.graph.node
        if node.op_type in LAYERS and node.input[1] in sizes
    }
    if not layers:
        raise NothingToQuantize(_why_none({node.op_type for node in graph.graph.node}))
    return layers


def _why_none(operators: set[str]) -> str:
    if any(operator.startswith("TreeEnsemble") for operator in operators):
        return TREES
    if operators & {"LinearClassifier", "LinearRegressor"}:
        return "it is linear, with one weight for each feature and class, and small and fast as it is"
    return "it has no layers that multiply by a matrix of weights, and those are what is quantized"


def _int8(graph: ModelProto, target: Path, rows: NDArray[np.float32], layers: Mapping[str, int]) -> None:
    first, *others = layers
    kept = first if others and layers[first] <= SMALL_SHARE * sum(layers.values()) else None
    # Signed on both sides: the instruction for unsigned times signed saturates on processors without VNNI, where the
    # scores would be others.
    quantize_static(
        graph,
        target,
        _Calibration(rows),
        op_types_to_quantize=list(LAYERS),
        nodes_to_exclude=[kept] if kept else [],
        per_channel=True,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        # Sums stay as they come: what follows (bias, activation) takes float32 anyway.
        extra_options={"OpTypesToExcludeOutputQuantization": list(LAYERS)},
    )
    network = onnx.load(target)
    compact(network, list(layers), kept, rows)
    del network.metadata_props[:]
    network.metadata_props.extend(graph.metadata_props)
    target.write_bytes(network.SerializeToString(deterministic=True))


def _float16(graph: ModelProto, target: Path, layers: Mapping[str, int]) -> None:
    """Only of the weights, as a row's own numbers may be larger than the largest float16, 65504."""
    body = graph.graph
    weights = {node.input[1] for node in body.node if node.name in layers}
    for item in [item for item in body.initializer if item.name in weights]:
        halved, name = numpy_helper.to_array(item).astype(np.float16), f"{item.name}_float16"
        body.initializer.remove(item)
        body.initializer.append(numpy_helper.from_array(halved, name))
        body.node.insert(0, helper.make_node("Cast", [name], [item.name], to=TensorProto.FLOAT))
    target.write_bytes(graph.SerializeToString(deterministic=True))


class _Calibration(CalibrationDataReader):  # type: ignore[misc]  # ONNX Runtime has no types
    """All reference rows as one batch, whose smallest and largest numbers between layers give the scales."""

    def __init__(self, rows: NDArray[np.float32]) -> None:
        self._batches: Iterator[dict[str, NDArray[np.float32]]] = iter([{INPUT: rows}])

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        return next(self._batches, None)


@contextmanager
def _quiet() -> Iterator[None]:
    """ONNX Runtime advises to have networks of images prepared first, each time."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(disabled)
