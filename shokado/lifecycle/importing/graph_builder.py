"""Building an ONNX graph: nodes, constants and graphs go in, each answers with the name of what it makes."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from shokado.lifecycle.importing.graphs import INPUT, IR, ML_OPSET, OPSET


class Nodes(Protocol):
    """What builds a graph: each call answers with the name of what it made."""

    def add(self, kind: str, inputs: Sequence[str], **attributes: Any) -> str: ...
    def add_all(self, kind: str, inputs: Sequence[str], outputs: int, **attributes: Any) -> list[str]: ...
    def constant(self, values: NDArray[Any]) -> str: ...


class Builder:
    """A graph of one input, float32 [N, columns], named `INPUT`."""

    def __init__(self, columns: int, ml_opset: int = ML_OPSET) -> None:
        self.columns = columns
        self._nodes: list[NodeProto] = []
        self._constants: list[TensorProto] = []
        self._opsets = {"": OPSET, "ai.onnx.ml": ml_opset}

    def add(self, kind: str, inputs: Sequence[str], **attributes: Any) -> str:
        """One node of one output."""
        return self.add_all(kind, inputs, 1, **attributes)[0]

    def add_all(self, kind: str, inputs: Sequence[str], outputs: int, **attributes: Any) -> list[str]:
        """One node of so many outputs."""
        made = [f"{kind.lower()}_{len(self._nodes)}" + f"_{at}" * (at > 0) for at in range(outputs)]
        self._nodes.append(helper.make_node(kind, list(inputs), made, **attributes))
        self._opsets.setdefault(attributes.get("domain", ""), 1)
        return made

    def constant(self, values: NDArray[Any]) -> str:
        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(values, name))
        return name

    def column(self, source: str, at: int) -> str:
        """One column of a tensor: [N, 1]."""
        return self.add("Gather", [source, self.constant(np.array([at]))], axis=1)

    def last_columns(self, source: str, count: int) -> str:
        """So many columns of a tensor, the last ones."""
        return self.add("Gather", [source, self.constant(np.arange(-count, 0))], axis=1)

    def filled(self, source: str, value: float) -> str:
        """The same number for each row of a tensor: [N, 1]."""
        rows = self.add("Gather", [self.add("Shape", [source]), self.constant(np.array([0]))])
        shape = self.add("Concat", [rows, self.constant(np.array([1]))], axis=0)
        number = numpy_helper.from_array(np.array([value], dtype=np.float32))
        return self.add("ConstantOfShape", [shape], value=number)

    def with_counterpart(self, positive: str) -> str:
        """Both probabilities, [N, 2], of that of the second class."""
        one = self.constant(np.ones(1, dtype=np.float32))
        return self.add("Concat", [self.add("Sub", [one, positive]), positive], axis=1)

    def include(self, graph: ModelProto, source: str) -> str:
        """All of a graph, given a tensor for its one input; answers with its one output of floats."""
        body, prefix = graph.graph, f"part_{len(self._nodes)}_"
        (output,) = [item.name for item in body.output if item.type.tensor_type.elem_type == TensorProto.FLOAT]
        names = {body.input[0].name: source, "": ""}

        def renamed(name: str) -> str:
            return names.get(name, prefix + name)

        for node in body.node:
            copied = NodeProto()
            copied.CopyFrom(node)
            copied.name = ""
            copied.input[:] = [renamed(name) for name in node.input]
            copied.output[:] = [renamed(name) for name in node.output]
            self._nodes.append(copied)
        for item in body.initializer:
            constant = TensorProto()
            constant.CopyFrom(item)
            constant.name = renamed(item.name)
            self._constants.append(constant)
        for entry in graph.opset_import:
            self._opsets[entry.domain] = max(entry.version, self._opsets.get(entry.domain, 0))
        return renamed(output)

    def model(self, output: str) -> ModelProto:
        """The graph with this output, of floats."""
        body = helper.make_graph(
            self._nodes,
            "shokado",
            [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["N", self.columns])],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["N", None])],
            self._constants,
        )
        opsets = [helper.make_opsetid(domain, version) for domain, version in self._opsets.items()]
        return helper.make_model(body, opset_imports=opsets, ir_version=IR)
