"""Graphs of float64: a model's graph by skl2onnx goes in, and comes out computing with doubles up to the score.

What skl2onnx 1.20 leaves out, or rounds: thresholds of trees lie in attributes of float32, and in `.._as_tensor` since
version 3 of the operators; trees give float32 whatever they take; ONNX's imputer has no float64. The score itself is a
float32, as of every other graph.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper
from skl2onnx.common import _registration
from skl2onnx.common._container import ModelComponentContainer
from skl2onnx.operator_converters.common import concatenate_variables

from shokado.lifecycle.importing.graphs import AS_TENSOR, INPUT, ROUNDED, THRESHOLDS, rename
from shokado.lifecycle.importing.histogram_trees import wide_nodes

_IMPUTER = "SklearnSimpleImputer"
_OPSET_OF_TENSORS = 3
_add_to_container = ModelComponentContainer.add_node


@contextmanager
def double_nodes() -> Iterator[None]:
    """While it lasts, thresholds and imputers keep their digits; no more than one thread converts at a time."""
    imputer = _registration.get_converter(_IMPUTER)
    with wide_nodes() as thresholds:

        def add_node(container: Any, op_type: str, *rest: Any, **attributes: Any) -> Any:
            if op_type.startswith("TreeEnsemble"):
                if len(thresholds) != len(attributes[THRESHOLDS]):
                    raise NotImplementedError(f"the thresholds of a {op_type} are not those of its trees")
                del attributes[THRESHOLDS]
                tensor = numpy_helper.from_array(np.array(thresholds, dtype=np.float64), THRESHOLDS)
                attributes |= {THRESHOLDS + AS_TENSOR: tensor, "op_version": _OPSET_OF_TENSORS}
                thresholds.clear()
            return _add_to_container(container, op_type, *rest, **attributes)

        _registration.register_converter(_IMPUTER, _fill, overwrite=True)
        ModelComponentContainer.add_node = add_node
        try:
            yield
        finally:
            ModelComponentContainer.add_node = _add_to_container
            _registration.register_converter(_IMPUTER, imputer._fct, overwrite=True, options=imputer._options)


def _fill(scope: Any, operator: Any, container: Any) -> None:
    """An imputer of numbers."""
    imputer = operator.raw_operator
    if not isinstance(imputer.missing_values, int | float):
        raise NotImplementedError(f"SimpleImputer(missing_values={imputer.missing_values!r})")
    rows = concatenate_variables(scope, operator.inputs, container)
    missing, filling = (scope.get_unique_variable_name(name) for name in ("missing", "filling"))

    def constant(values: Any, name: str) -> str:
        numbers = np.atleast_2d(np.asarray(values, dtype=np.float64))
        container.add_initializer(name, TensorProto.DOUBLE, list(numbers.shape), numbers.ravel().tolist())
        return name

    kind, inputs = "IsNaN", [rows]
    if not np.isnan(imputer.missing_values):
        kind = "Equal"
        inputs = [rows, constant(imputer.missing_values, scope.get_unique_variable_name("sentinel"))]
    container.add_node(kind, inputs, [missing], name=scope.get_unique_operator_name(kind), op_version=13)
    inputs = [missing, constant(imputer.statistics_, filling), rows]
    name = scope.get_unique_operator_name("Where")
    container.add_node("Where", inputs, [operator.outputs[0].full_name], name=name, op_version=9)


def takes_doubles(graph: ModelProto) -> bool:
    """Whether the graph's own input is float64."""
    return any(item.type.tensor_type.elem_type == TensorProto.DOUBLE for item in graph.graph.input)


def settle(graph: ModelProto, output: str) -> None:
    """Let trees give doubles, as what follows them takes, and the output be float32, in place."""
    body, nodes = graph.graph, []
    for node in graph.graph.node:
        nodes.append(node)
        if node.op_type.startswith("TreeEnsemble"):
            given = node.output[-1]
            node.output[-1] = f"{given}_of_trees"
            # What trees give as the score is one already.
            if given == output:
                node.output[-1] = given
            else:
                nodes.append(helper.make_node("Cast", [node.output[-1]], [given], to=TensorProto.DOUBLE))
    makers = {name: node for node in nodes for name in node.output}
    if not makers[output].op_type.startswith("TreeEnsemble"):
        maker = makers[output]
        wide = f"{output}_wide"
        maker.output[:] = [wide if name == output else name for name in maker.output]
        nodes.append(helper.make_node("Cast", [wide], [output], to=TensorProto.FLOAT))
    _replace(body, nodes)


def feed_with_doubles(graph: ModelProto) -> None:
    """Let a graph of float32 take float64, in place: exact for a model that makes float32 of its rows itself."""
    rename(graph.graph, INPUT, ROUNDED)
    cast = helper.make_node("Cast", [INPUT], [ROUNDED], to=TensorProto.FLOAT)
    _replace(graph.graph, [cast, *graph.graph.node])


def round_columns(graph: ModelProto, narrow: Sequence[bool]) -> None:
    """Round the columns that are float32 to their model, in place."""
    body, mask = graph.graph, f"{ROUNDED}_columns"
    rename(body, INPUT, ROUNDED)
    body.initializer.append(numpy_helper.from_array(np.array([list(narrow)], dtype=bool), mask))
    nodes = [
        helper.make_node("Cast", [INPUT], [f"{ROUNDED}_float32"], to=TensorProto.FLOAT),
        helper.make_node("Cast", [f"{ROUNDED}_float32"], [f"{ROUNDED}_float64"], to=TensorProto.DOUBLE),
        helper.make_node("Where", [mask, f"{ROUNDED}_float64", INPUT], [ROUNDED]),
    ]
    _replace(body, [*nodes, *body.node])


def _replace(body: Any, nodes: Sequence[Any]) -> None:
    kept = list(nodes)
    del body.node[:]
    body.node.extend(kept)
