"""What an ONNX file takes: its inputs as the columns of rows, and the same inputs behind the contract's one.

A file takes one tensor [N, features], or several of one column each, as skl2onnx makes of a DataFrame. Numbers go from
the packed row into the tensor's own type. A text comes as the position of its level, and is looked up again: its levels
are those that the file's own operators tell apart, and any other text is one and the same to them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from runners.inputs.schema import Feature
from shokado.lifecycle.errors import UnsupportedModel
from shokado.lifecycle.importing.graphs import INPUT, rename
from shokado.lifecycle.importing.level_texts import ANY_TEXT, spelt_other

FeatureType = Literal["float", "integer", "boolean", "category"]
_TYPES: dict[int, FeatureType] = {
    TensorProto.FLOAT: "float",
    TensorProto.DOUBLE: "float",
    TensorProto.INT32: "integer",
    TensorProto.INT64: "integer",
    TensorProto.BOOL: "boolean",
    TensorProto.STRING: "category",
}
_COMPARE = ("OneHotEncoder", "LabelEncoder", "Equal")
"""What tells texts apart by those that it has itself."""
_CARRY = frozenset(
    {
        "ArrayFeatureExtractor",
        "Concat",
        "Flatten",
        "Gather",
        "Identity",
        "Reshape",
        "Slice",
        "Split",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
        "Where",
    }
)
"""What leaves texts as they are."""
_KEYS = ("cats_strings", "keys_strings", "keys_tensor")


@dataclass(frozen=True)
class OnnxInput:
    """One tensor that a file takes.

    Attributes:
        kind: of its elements, as ONNX numbers them.
        columns: how many columns of a row it has.
        is_flat: whether it is [N] where others are [N, columns].
        levels: of a tensor of texts, those that are told apart.
    """

    name: str
    kind: int
    columns: int
    is_flat: bool = False
    levels: tuple[str, ...] = ()

    @property
    def type(self) -> FeatureType:
        """The type of the features that its columns are."""
        return _TYPES[self.kind]

    @property
    def largest(self) -> float:
        """The largest whole number that it takes; infinite where rows have none that it cannot take."""
        return float(np.iinfo(np.int32).max) if self.kind == TensorProto.INT32 else np.inf

    def tensor(self, values: NDArray[Any]) -> NDArray[Any]:
        """What the file is given for its columns of rows, [N, columns]. Raises `ValueError` for what it cannot take."""
        values = self._texts(values) if self.kind == TensorProto.STRING else self._numbers(values)
        return values[:, 0] if self.is_flat else values

    def _texts(self, values: NDArray[Any]) -> NDArray[Any]:
        if not all(isinstance(value, str) for value in values.ravel().tolist()):
            raise ValueError(f"{self.name} takes texts, and none may be missing")
        return values.astype(object)

    def _numbers(self, values: NDArray[Any]) -> NDArray[Any]:
        numbers = values.astype(np.float64)
        if self.type != "float" and not np.isfinite(numbers).all():
            raise ValueError(f"{self.name} takes whole numbers, and none may be missing")
        with np.errstate(over="ignore"):
            return numbers.astype(helper.tensor_dtype_to_np_dtype(self.kind))


def inputs_of(graph: ModelProto) -> tuple[OnnxInput, ...]:
    """The inputs of a file. Raises `UnsupportedModel` for those that no rows of columns can be."""
    constants = {item.name for item in graph.graph.initializer}
    given = [item for item in graph.graph.input if item.name not in constants]
    for item in given:
        _refuse(item, len(given))
    return tuple(
        OnnxInput(
            item.name,
            _kind(item),
            int(dimensions[1].dim_value) if len(dimensions := _dimensions(item)) > 1 else 1,
            len(dimensions) == 1,
            _levels(graph, item.name) if _kind(item) == TensorProto.STRING else (),
        )
        for item in given
    )


def _refuse(item: Any, count: int) -> None:
    dimensions = _dimensions(item)
    if _kind(item) not in _TYPES or len(dimensions) not in (1, 2):
        raise UnsupportedModel(
            f"its input {_shown(item)} is no table of columns: float32, float64, int32, int64, truth values or texts, "
            "[N, features], belong there."
        )
    rows, *columns = dimensions
    if rows.HasField("dim_value") and rows.dim_value > 0:
        raise UnsupportedModel(
            f"it takes {rows.dim_value} rows at a time, no more and no less: export it with a dynamic first axis."
        )
    if columns and not columns[0].dim_value:
        raise UnsupportedModel(
            f"its input {item.name} does not say how many columns it has: export it with their number."
        )
    if count > 1 and columns and columns[0].dim_value > 1:
        raise UnsupportedModel(
            f"its input {_shown(item)} has {columns[0].dim_value} columns beside other inputs: export it with an input "
            "for each column, or with a single one."
        )


def _levels(graph: ModelProto, source: str) -> tuple[str, ...]:
    """The texts that any operator tells apart which the texts of this input come to."""
    constants = {item.name: item for item in graph.graph.initializer}
    reached, levels = {source}, dict[str, None]()
    for node in graph.graph.node:
        if not reached.intersection(node.input):
            continue
        if node.op_type in _CARRY:
            reached.update(node.output)
        elif node.op_type in _COMPARE and (texts := list(_texts_in(node, constants))):
            levels.update(dict.fromkeys(texts))
        else:
            raise UnsupportedModel(
                f"its texts {source} go into {node.op_type}: what takes texts must be an encoder of categories."
            )
    return tuple(levels) or ANY_TEXT


def _texts_in(node: NodeProto, constants: Mapping[str, TensorProto]) -> Iterator[str]:
    """The texts that an operator has itself."""
    for item in node.attribute:
        if item.name in _KEYS:
            value = helper.get_attribute_value(item)
            yield from map(_text, numpy_helper.to_array(value).ravel() if item.name == "keys_tensor" else value)
    for name in node.input:
        if name in constants and constants[name].data_type == TensorProto.STRING:
            yield from map(_text, numpy_helper.to_array(constants[name]).ravel())


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def put_behind(graph: ModelProto, inputs: Sequence[OnnxInput], features: int, *, is_wide: bool) -> None:
    """Let the graph take the contract's one input, [N, features] of float32 or float64, in place."""
    body, rows = graph.graph, TensorProto.DOUBLE if is_wide else TensorProto.FLOAT
    if len(inputs) == 1 and inputs[0].kind == rows and not inputs[0].is_flat:
        rename(body, inputs[0].name, INPUT)
    else:
        nodes = _Nodes()
        at = 0
        for source in inputs:
            nodes.feed(source, range(at, at + source.columns), features, rows)
            at += source.columns
        found = [*nodes.nodes, *body.node]
        del body.node[:]
        body.node.extend(found)
        body.initializer.extend(nodes.constants)
    del body.input[:]
    body.input.append(helper.make_tensor_value_info(INPUT, rows, ["N", features]))


def no_score_beyond(graph: ModelProto, scores: str, largest: NDArray[np.float64]) -> str:
    """Scores that are NaN in rows with a number whose size is beyond what its column takes, in place: their new name.

    The largest ones are [features], infinite where any number is taken. A cast to a type of whole numbers would make
    any other number of one that the type cannot hold.
    """
    body, bounded = graph.graph, np.flatnonzero(np.isfinite(largest))
    dtype = helper.tensor_dtype_to_np_dtype(_kind(body.input[0]))
    constants = {
        "at": bounded,
        "bounds": (largest[bounded] + 1).astype(dtype)[None, :],
        "ones": np.ones((len(bounded), 1), dtype=np.float32),
        "zero": np.zeros(1, dtype=np.float32),
        "nan": np.full(1, np.nan, dtype=np.float32),
    }
    names = {key: f"shokado_guard_{key}" for key in (*constants, "given", "size", "held", "beyond", "count", "any")}
    body.initializer.extend(numpy_helper.from_array(value, names[key]) for key, value in constants.items())
    guard, found = names["any"] + "_nan", "shokado_guarded"
    body.node.extend(
        [
            helper.make_node("Gather", [INPUT, names["at"]], [names["given"]], axis=1),
            helper.make_node("Abs", [names["given"]], [names["size"]]),
            helper.make_node("Less", [names["size"], names["bounds"]], [names["held"]]),
            helper.make_node("Not", [names["held"]], [names["beyond"]]),
            helper.make_node("Cast", [names["beyond"]], [names["beyond"] + "_count"], to=TensorProto.FLOAT),
            helper.make_node("MatMul", [names["beyond"] + "_count", names["ones"]], [names["count"]]),
            helper.make_node("Greater", [names["count"], names["zero"]], [names["any"]]),
            helper.make_node("Where", [names["any"], names["nan"], names["zero"]], [guard]),
            helper.make_node("Add", [scores, guard], [found]),
        ]
    )
    return found


class _Nodes:
    """Nodes before a file's own, whose names are nobody else's."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def feed(self, source: OnnxInput, columns: range, features: int, rows: int) -> None:
        """Make the tensor of its columns of packed rows."""
        if source.kind == TensorProto.STRING:
            table = self._constant(np.array([*source.levels, other_than(source.levels)], dtype=object))
            found = []
            for column in columns:
                level = self._add("Gather", [INPUT, self._constant(np.array([column]))], axis=1)
                found.append(self._add("Gather", [table, self._add("Cast", [level], to=TensorProto.INT64)], axis=0))
            made = found[0] if len(found) == 1 else self._add("Concat", found, axis=1)
        else:
            made = INPUT
            if len(columns) < features:
                made = self._add("Gather", [INPUT, self._constant(np.array(columns))], axis=1)
            if source.kind != rows:
                made = self._add("Cast", [made], to=source.kind)
        if source.is_flat:
            self._add("Reshape", [made, self._constant(np.array([-1]))], output=source.name)
        else:
            self._add("Identity", [made], output=source.name)

    def _add(self, kind: str, inputs: Sequence[str], output: str = "", **attributes: Any) -> str:
        output = output or f"shokado_{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def _constant(self, values: NDArray[Any]) -> str:
        name = f"shokado_constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(values, name))
        return name


def other_than(levels: tuple[str, ...]) -> str:
    """A text that is none of the levels."""
    return spelt_other(Feature(name="text", type="category", levels=levels))


def shown(graph: ModelProto) -> str:
    """The inputs in words."""
    return ", ".join(_shown(item) for item in graph.graph.input) or "none"


def _dimensions(item: Any) -> list[Any]:
    return list(item.type.tensor_type.shape.dim)


def _kind(item: Any) -> int:
    return int(item.type.tensor_type.elem_type)


def _shown(item: Any) -> str:
    dimensions = [str(each.dim_value or each.dim_param or "?") for each in _dimensions(item)]
    kind = TensorProto.DataType.Name(_kind(item)).lower() if item.type.HasField("tensor_type") else "no tensor"
    return f"{item.name} ({kind} [{', '.join(dimensions)}])"
