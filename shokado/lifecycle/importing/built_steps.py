"""Built steps: a transformer or a model whose nodes are made here, as a step that skl2onnx takes.

What is built takes float64 [N, columns] and gives float64 [N, outputs], whatever the graph around it computes in.
"""

from collections.abc import Callable
from typing import Any

from onnx import TensorProto
from skl2onnx import update_registered_converter
from skl2onnx.common.data_types import FloatTensorType
from sklearn.base import BaseEstimator, TransformerMixin

from shokado.lifecycle.importing.graph_builder import Nodes
from shokado.lifecycle.importing.level_tables import ConverterNodes, float_type

Build = Callable[[Nodes, str], str]
"""What makes the nodes: a tensor of float64 goes in, the name of another one comes out."""


class BuiltStep(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Stands for a fitted step with so many outputs."""

    def __init__(self, build: Build, outputs: int) -> None:
        self.build = build
        self.outputs = outputs

    def fit(self, *_: Any) -> "BuiltStep":
        """There is nothing to learn."""
        return self


def _shapes(operator: Any) -> None:
    rows = operator.inputs[0].get_first_dimension()
    operator.outputs[0].type = float_type(operator)([rows, operator.raw_operator.outputs])


def _convert(scope: Any, operator: Any, container: Any) -> None:
    kind = float_type(operator)
    nodes = ConverterNodes(scope, container, kind)
    wide = nodes.add("Cast", [operator.inputs[0].full_name], to=TensorProto.DOUBLE)
    found = operator.raw_operator.build(nodes, wide)
    if kind is FloatTensorType:
        found = nodes.add("Cast", [found], to=TensorProto.FLOAT)
    nodes.name(found, operator.outputs[0].full_name)


update_registered_converter(BuiltStep, "ShokadoBuiltStep", _shapes, _convert, overwrite=True)
