"""Model files that take down the process that opens them: valid by their digest, and made of real ones."""

import struct

import onnx
from onnx import TensorProto, helper

MIB = 2**20


def crashing_trees(ubj: bytes) -> bytes:
    """XGBoost follows a tree's first child to node 2**30, far beyond its memory: SIGSEGV."""
    first = ubj.index(b"left_children[$l#") + len(b"left_children[$l#")
    # An array's length is one byte for its type, L, and eight bytes.
    assert ubj[first : first + 1] == b"L"
    return ubj[: first + 9] + struct.pack(">i", 2**30) + ubj[first + 13 :]


def endless(features: int) -> bytes:
    """A binary model whose loop never ends."""
    always = helper.make_node("Constant", [], ["always"], value=helper.make_tensor("a", TensorProto.BOOL, [], [True]))
    body = helper.make_graph(
        [helper.make_node("Identity", ["go_on"], ["goes_on"]), helper.make_node("Identity", ["kept"], ["keeps"])],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("kept", TensorProto.FLOAT, [None, features]),
        ],
        [
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("keeps", TensorProto.FLOAT, [None, features]),
        ],
    )
    return _model(features, [always, helper.make_node("Loop", ["", "always", "input"], ["rows"], body=body)])


def looping(content: bytes) -> bytes:
    """A model as it was, but that it loops before it scores, as often as a row's sixth feature says.

    Of customers, that is one of floats: a whole number of any size is not taken.
    """
    made = onnx.load_from_string(content)
    (given,) = made.graph.input
    body = helper.make_graph(
        [helper.make_node("Identity", ["go_on"], ["goes_on"]), helper.make_node("Identity", ["kept"], ["keeps"])],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("kept", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("keeps", TensorProto.FLOAT, None),
        ],
    )
    constants = [
        helper.make_tensor("sixth", TensorProto.INT64, [1], [5]),
        helper.make_tensor("always", TensorProto.BOOL, [], [True]),
    ]
    nodes = [
        helper.make_node("Gather", [given.name, "sixth"], ["said"], axis=1),
        helper.make_node("ReduceMax", ["said"], ["most"], keepdims=0),
        helper.make_node("Cast", ["most"], ["rounds"], to=TensorProto.INT64),
        helper.make_node("Loop", ["rounds", "always", given.name], ["looped"], body=body),
    ]
    scoring = list(made.graph.node)
    for node in scoring:
        node.input[:] = ["looped" if name == given.name else name for name in node.input]
    del made.graph.node[:]
    made.graph.node.extend([*nodes, *scoring])
    made.graph.initializer.extend(constants)
    changed: bytes = made.SerializeToString()
    return changed


def hungry(features: int, mib: int) -> bytes:
    """A binary model that fills so much memory."""
    size = helper.make_tensor("size", TensorProto.INT64, [1], [mib * MIB // 4])
    nodes = [
        helper.make_node("Constant", [], ["size"], value=size),
        helper.make_node("ConstantOfShape", ["size"], ["much"]),
        helper.make_node("ReduceSum", ["much"], ["sum"], keepdims=0),
        helper.make_node("Add", ["input", "sum"], ["rows"]),
    ]
    return _model(features, nodes)


def _model(features: int, nodes: list[onnx.NodeProto]) -> bytes:
    weights = helper.make_tensor("weights", TensorProto.FLOAT, [features, 2], [0.0] * (2 * features))
    graph = helper.make_graph(
        [*nodes, helper.make_node("MatMul", ["rows", "weights"], ["probabilities"])],
        "model",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [None, features])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2])],
        [weights],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    content: bytes = made.SerializeToString()
    return content
