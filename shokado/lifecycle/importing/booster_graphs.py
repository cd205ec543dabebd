"""XGBoost's files: a model goes in; its ONNX graph comes out, and its plain Booster.

A plain Booster answers as the model does and has nothing else: no names, no rounds after the best one, and trees that
onnxmltools converts right, which is one of each class in turn, with its weight in its leaves. Of objectives that it
converts wrong or not at all it is given the trees as a regression's, and their link is put behind them. A linear model
becomes a matrix. Trees of several values a row are put together here.
"""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper
from onnxmltools import convert_xgboost
from onnxmltools.convert.common import data_types as xgboost_types
from xgboost import Booster, DMatrix

from runners.artefacts.card import Task
from shokado.lifecycle.errors import UnsupportedModel
from shokado.lifecycle.importing.booster_values import graph_of_values
from shokado.lifecycle.importing.boosters import learner_of, link_of, objective_of, task_of
from shokado.lifecycle.importing.graphs import INPUT, IR, ML_OPSET, OPSET, rename
from shokado.lifecycle.importing.links import Link
from shokado.lifecycle.importing.probing_rows import sentinels_of

_CONVERTED = ("binary:logistic", "multi:softprob", "reg:squarederror")
"""The objectives that onnxmltools converts right."""
_WITH_PROBABILITIES = {"multi:softmax": "multi:softprob", "reg:logistic": "binary:logistic"}
"""Objectives of the same trees that answer with probabilities."""
_MARGIN = "margin"
_OPERATORS = {Link.IDENTITY: "Identity", Link.EXP: "Exp", Link.SIGMOID: "Sigmoid", Link.SOFTMAX: "Softmax"}

_Learner = dict[str, Any]


def convert(model: Any, columns: int) -> tuple[ModelProto, Booster | None]:
    """The graph of a model of so many columns, and its plain Booster unless that cannot answer as the model does.

    XGBoost's own file does not say what a missing value is, and scores a linear model neither in place nor in parallel.
    """
    booster = plain_booster(model)
    task, sentinels = task_of(model), sentinels_of(model)
    if _is_linear(booster):
        graph, missing = _linear_graph(booster, columns, task), 0.0
    else:
        if task is Task.BINARY and not booster.get_score(importance_type="weight"):
            raise UnsupportedModel(
                f"{type(model).__name__} has trees of a single leaf only, so that it answers the same for every row: "
                "there is nothing to predict. Its training found no split; look at its parameters (gamma, "
                "min_child_weight) and its data."
            )
        graph, missing = _tree_graph(booster, columns, task), np.nan
    if sentinels:
        _take_for_missing(graph, sentinels[0], missing)
    return graph, None if sentinels or _is_linear(booster) else booster


def plain_booster(model: Any) -> Booster:
    booster: Booster = model
    if hasattr(model, "get_booster"):
        booster = model.get_booster()
        best = booster.attr("best_iteration")
        booster = booster[: int(best) + 1] if best is not None and not _is_linear(booster) else booster
    booster = booster.copy()
    booster.feature_names = None
    booster.feature_types = None
    booster.set_attr(best_iteration=None, best_score=None)
    changes: list[Callable[[_Learner], None]] = []
    trees = learner_of(booster)["gradient_booster"]
    if trees["name"] == "dart":
        changes.append(_weigh_leaves)
        trees = trees["gbtree"]
    if task_of(model) is Task.MULTICLASS and int(trees.get("gbtree_model_param", {}).get("num_parallel_tree", 1)) > 1:
        changes.append(_interleave)
    if not task_of(model).is_of_values and objective_of(model) in _WITH_PROBABILITIES:
        changes.append(_give_probabilities)
    return _changed(booster, *changes) if changes else booster


def _is_linear(booster: Booster) -> bool:
    return bool(learner_of(booster)["gradient_booster"]["name"] == "gblinear")


def _changed(booster: Booster, *changes: Callable[[_Learner], None]) -> Booster:
    content = json.loads(booster.save_raw("json"))
    for change in changes:
        change(content["learner"])
    return Booster(model_file=bytearray(json.dumps(content, separators=(",", ":")).encode()))


def _weigh_leaves(learner: _Learner) -> None:
    """Let the leaves of boosting with dropout (dart) have the weights of their trees, which it multiplies them with."""
    dart = learner["gradient_booster"]
    for tree, weight in zip(dart["gbtree"]["model"]["trees"], dart["weight_drop"], strict=True):
        leaves = np.array(tree["left_children"]) < 0
        weighed = np.array(tree["split_conditions"], dtype=np.float32)
        weighed[leaves] *= np.float32(weight)
        tree["split_conditions"] = weighed.tolist()
    learner["gradient_booster"] = dart["gbtree"]


def _interleave(learner: _Learner) -> None:
    """Put a forest's trees in the order of boosting, which is one tree of each class in turn."""
    model = learner["gradient_booster"]["model"]
    classes = np.array(model["tree_info"])
    rank = np.empty(len(classes), dtype=np.int64)
    for each in np.unique(classes):
        rank[classes == each] = np.arange((classes == each).sum())
    order = np.lexsort((classes, rank))
    model["trees"] = [model["trees"][at] | {"id": position} for position, at in enumerate(order)]
    model["tree_info"] = classes[order].tolist()
    model["iteration_indptr"] = list(range(0, len(order) + 1, len(np.unique(classes))))
    model["gbtree_model_param"]["num_parallel_tree"] = "1"


def _give_probabilities(learner: _Learner) -> None:
    learner["objective"]["name"] = _WITH_PROBABILITIES[learner["objective"]["name"]]


def intercepts_of(booster: Booster) -> NDArray[np.float32]:
    """The margins to which all leaves or weights are added, one a class or one alone, by XGBoost's own word."""

    def empty(learner: _Learner) -> None:
        model = learner["gradient_booster"]["model"]
        for tree in model.get("trees", ()):
            leaves = np.array(tree["left_children"]) < 0
            tree["split_conditions"] = np.where(leaves, 0, tree["split_conditions"]).tolist()
            if "leaf_weights" in tree:
                tree["leaf_weights"] = [0.0] * len(tree["leaf_weights"])
        if "weights" in model:
            model["weights"] = [0.0] * len(model["weights"])

    row = DMatrix(np.zeros((1, booster.num_features()), dtype=np.float32))
    return np.asarray(_changed(booster, empty).predict(row, output_margin=True)).reshape(-1)


def _tree_graph(booster: Booster, columns: int, task: Task) -> ModelProto:
    graph: ModelProto
    if task.has_outputs:
        graph = graph_of_values(booster, columns, intercepts_of(booster))
        _append_link(graph, link_of(booster), task)
        return graph
    is_converted = objective_of(booster) in _CONVERTED
    trees = booster if is_converted else _as_regression(booster)
    inputs = [(INPUT, xgboost_types.FloatTensorType([None, columns]))]
    graph = convert_xgboost(trees, initial_types=inputs, target_opset=OPSET)
    if not is_converted:
        _append_link(graph, link_of(booster), task)
    return graph


def _as_regression(booster: Booster) -> Booster:
    """The same trees, whose answer is the margin."""
    (intercept,) = intercepts_of(booster).tolist()

    def change(learner: _Learner) -> None:
        learner["objective"] = {"name": "reg:squarederror", "reg_loss_param": {"scale_pos_weight": "1"}}
        parameters = learner["learner_model_param"]
        is_list = parameters["base_score"].startswith("[")  # since XGBoost 3.1
        parameters["base_score"] = f"[{intercept!r}]" if is_list else repr(intercept)

    return _changed(booster, change)


def _linear_graph(booster: Booster, columns: int, task: Task) -> ModelProto:
    model = json.loads(booster.save_raw("json"))["learner"]["gradient_booster"]["model"]
    intercepts = intercepts_of(booster)
    weights = np.array(model["weights"], dtype=np.float32).reshape(columns + 1, len(intercepts))
    body = helper.make_graph(
        [
            # What is missing counts for nothing.
            helper.make_node("IsNaN", [INPUT], ["is_gap"]),
            helper.make_node("Where", ["is_gap", "nothing", INPUT], ["filled"]),
            helper.make_node("Gemm", ["filled", "weights", "bias"], [_MARGIN]),
        ],
        "linear",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["N", columns])],
        [helper.make_tensor_value_info(_MARGIN, TensorProto.FLOAT, ["N", len(intercepts)])],
        [
            onnx.numpy_helper.from_array(weights[:-1], "weights"),
            onnx.numpy_helper.from_array(weights[-1] + intercepts, "bias"),
            onnx.numpy_helper.from_array(np.zeros(1, dtype=np.float32), "nothing"),
        ],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
    graph = helper.make_model(body, opset_imports=opsets, ir_version=IR)
    _append_link(graph, link_of(booster), task)
    return graph


def _append_link(graph: ModelProto, link: Link, task: Task) -> None:
    """Let the graph answer with what the link makes of its margins, in place; a probability with its counterpart."""
    (output,) = graph.graph.output
    rename(graph.graph, output.name, _MARGIN)
    output.name = "answer"
    last = "positive" if task is Task.BINARY else "answer"
    graph.graph.node.extend(
        _step(last) if link is Link.STEP else [helper.make_node(_OPERATORS[link], [_MARGIN], [last])]
    )
    graph.graph.initializer.extend(
        onnx.numpy_helper.from_array(np.array(value, dtype=np.float32), name)
        for name, value in (("zero", 0), ("one", 1))
    )
    if task is Task.BINARY:
        graph.graph.node.append(helper.make_node("Sub", ["one", last], ["negative"]))
        graph.graph.node.append(helper.make_node("Concat", ["negative", last], ["answer"], axis=1))


def _step(output: str) -> list[NodeProto]:
    return [
        helper.make_node("Greater", [_MARGIN, "zero"], ["above"]),
        helper.make_node("Cast", ["above"], [output], to=TensorProto.FLOAT),
    ]


def _take_for_missing(graph: ModelProto, sentinel: float, missing: float) -> None:
    """Put what the model makes of a missing value in place of the number that means one, in front of all else."""
    body = graph.graph
    rename(body, INPUT, "present")
    for name, value in (("sentinel", sentinel), ("missing", missing)):
        body.initializer.append(onnx.numpy_helper.from_array(np.array(value, dtype=np.float32), name))
    body.node.insert(0, helper.make_node("Where", ["is_missing", "missing", INPUT], ["present"]))
    body.node.insert(0, helper.make_node("Equal", [INPUT, "sentinel"], ["is_missing"]))
