"""Tables: what is made of a column's values, looked up in an ONNX graph.

A table is for the levels of a category, for the numbers that an encoder tells apart, or for the bins of a number; one
row stands for what is missing, and one for all else. `LevelTable` is a transformer of tables for skl2onnx.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto
from skl2onnx import update_registered_converter
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType
from sklearn.base import BaseEstimator, TransformerMixin

from shokado.lifecycle.errors import UnsupportedModel
from shokado.lifecycle.importing.graph_builder import Nodes

_FLOAT = TensorProto.FLOAT


@dataclass(frozen=True, eq=False)
class ColumnTable:
    """What is made of one column, whatever the others are."""

    column: int
    """Which one it is of those that the table's owner is given."""
    values: NDArray[np.float32]
    """A row for each level, key or bin, then one for any other level or key, then one for what is missing: [N, width].
    """
    at: NDArray[np.int64]
    """Which of the owner's outputs these are."""
    keys: NDArray[np.float32] | None = None
    """The numbers that the rows are for."""
    bounds: NDArray[np.float32] | None = None
    """The largest number of each bin but the last. Without keys and bounds, rows are for the positions of levels."""


def lookup(nodes: Nodes, source: str, table: ColumnTable) -> str:
    """What the table has for each row of a tensor [N, columns]: [N, width]."""
    column = nodes.add("Gather", [source, nodes.constant(np.array([table.column]))], axis=1)
    missing = nodes.add("IsNaN", [column])
    values = table.values
    if table.keys is not None:
        return _by_key(nodes, column, missing, table.keys, values)
    at = column
    if table.bounds is not None:
        above = nodes.add("Cast", [nodes.add("Greater", [column, nodes.constant(table.bounds[None, :])])], to=_FLOAT)
        at = nodes.add("MatMul", [above, nodes.constant(np.ones((len(table.bounds), 1), dtype=np.float32))])
    last = nodes.constant(np.array([[len(values) - 1]], dtype=np.float32))
    position = nodes.add("Cast", [nodes.add("Where", [missing, last, at])], to=TensorProto.INT64)
    rows = nodes.add("Gather", [nodes.constant(values), position], axis=0)
    return nodes.add("Reshape", [rows, nodes.constant(np.array([-1, values.shape[1]]))])


def _by_key(nodes: Nodes, column: str, missing: str, keys: NDArray[np.float32], values: NDArray[np.float32]) -> str:
    known = nodes.constant(values[-2:-1])
    if len(keys):
        same = nodes.add("Cast", [nodes.add("Equal", [column, nodes.constant(keys[None, :])])], to=_FLOAT)
        is_known = nodes.add("Cast", [nodes.add("ReduceMax", [same], axes=[1], keepdims=1)], to=TensorProto.BOOL)
        row = nodes.add(
            "Gather", [nodes.constant(values[:-2]), nodes.add("ArgMax", [same], axis=1, keepdims=0)], axis=0
        )
        known = nodes.add("Where", [is_known, row, known])
    return nodes.add("Where", [missing, nodes.constant(values[-1:]), known])


def lookups(nodes: Nodes, source: str, tables: Sequence[ColumnTable]) -> str:
    """What all tables have, in the order of their owner's outputs."""
    tables = [table for table in tables if len(table.at)]
    found = [lookup(nodes, source, table) for table in tables]
    joined = found[0] if len(found) == 1 else nodes.add("Concat", found, axis=1)
    order = np.argsort(np.concatenate([table.at for table in tables]))
    if (order == np.arange(len(order))).all():
        return joined
    return nodes.add("Gather", [joined, nodes.constant(order)], axis=1)


class LevelTable(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Stands for a transformer that looks at each column for itself."""

    def __init__(self, tables: Sequence[ColumnTable] = ()) -> None:
        self.tables = tables

    def fit(self, *_: Any) -> "LevelTable":
        """There is nothing to learn."""
        return self


class ConverterNodes:
    """Nodes in the container of a converter of skl2onnx."""

    def __init__(self, scope: Any, container: Any, kind: Any = FloatTensorType) -> None:
        self._scope, self._container = scope, container
        self._float = TensorProto.DOUBLE if kind is DoubleTensorType else TensorProto.FLOAT

    def add(self, kind: str, inputs: Sequence[str], **attributes: Any) -> str:
        return self.add_all(kind, inputs, 1, **attributes)[0]

    def add_all(self, kind: str, inputs: Sequence[str], outputs: int, **attributes: Any) -> list[str]:
        made: list[str] = [self._scope.get_unique_variable_name(kind.lower()) for _ in range(outputs)]
        name = self._scope.get_unique_operator_name(kind)
        self._container.add_node(kind, list(inputs), made, name=name, op_version=13, **attributes)
        return made

    def constant(self, values: NDArray[Any]) -> str:
        kinds = {"int64": TensorProto.INT64, "float64": TensorProto.DOUBLE, "float32": self._float}
        name: str = self._scope.get_unique_variable_name("table")
        self._container.add_initializer(name, kinds[values.dtype.name], list(values.shape), values.ravel().tolist())
        return name

    def name(self, found: str, output: str) -> None:
        """Let what was found be the converter's output."""
        name = self._scope.get_unique_operator_name("Identity")
        self._container.add_node("Identity", [found], [output], name=name, op_version=13)


def float_type(operator: Any) -> Any:
    """The type of what an operator of skl2onnx is given, and gives: of float32, or of float64."""
    return DoubleTensorType if isinstance(operator.inputs[0].type, DoubleTensorType) else FloatTensorType


def _shapes(operator: Any) -> None:
    width = sum(len(table.at) for table in operator.raw_operator.tables)
    operator.outputs[0].type = float_type(operator)([operator.inputs[0].get_first_dimension(), width])


def _convert(scope: Any, operator: Any, container: Any) -> None:
    has_bins = any(table.bounds is not None for table in operator.raw_operator.tables)
    if has_bins and float_type(operator) is DoubleTensorType:
        raise UnsupportedModel("Its KBinsDiscretizer has no conversion for rows of float64.")
    nodes = ConverterNodes(scope, container, float_type(operator))
    found = lookups(nodes, operator.inputs[0].full_name, operator.raw_operator.tables)
    nodes.name(found, operator.outputs[0].full_name)


update_registered_converter(LevelTable, "ShokadoLevelTable", _shapes, _convert, overwrite=True)
