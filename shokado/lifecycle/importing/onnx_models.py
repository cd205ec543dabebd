"""ONNX files of somebody's own, as `mlflow.onnx` logs them: what they take and give, and the same under the contract.

A graph goes in; a model comes out that answers `predict`, and `predict_proba` where it is a classifier, as those of
scikit-learn do: both are the file's own answers, by ONNX Runtime. What is taken has one input, float32 [N, features],
and gives

    one output, float32 [N, 1] or [N]              a value
    one output, float32 [N, classes]               probabilities, which must add up to 1
    labels [N], and probabilities, or a ZipMap     both, as skl2onnx and onnxmltools make them

What a framework was asked to export keeps that framework's own answers, see `OnnxModel.answers`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import onnx
import onnx.inliner
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper

from runners.artefacts.card import ABOVE_HALF, Task
from shokado.lifecycle.errors import UnsupportedModel
from shokado.lifecycle.importing.graphs import INPUT, rename

_DOMAINS = {"", "ai.onnx", "ai.onnx.ml", "com.microsoft"}
"""Whose operators every ONNX Runtime has."""
_CLASS_LABELS = ("classlabels_int64s", "classlabels_strings", "classlabels_ints")
_PROBES = 256
_SEED = 3
_SUM_TOLERANCE = 1e-4
_FATAL = 4
"""ONNX Runtime's level of what it logs."""


@dataclass(frozen=True, eq=False)
class OnnxModel:
    """The file of a value, or of several a row, see `read`.

    Attributes:
        graph: the file, as it was logged.
        n_features_in_: how many columns its input has.
        scores_name: the float output, or what its ZipMap makes a map of.
        outputs: what the file calls its outputs, and how each lies in its answer (see `Card.own_outputs`).
        answers: what the framework that it was exported from gives for rows, float32 [N, features], as its only output;
            None where the file is somebody's own, which answers for itself.
    """

    graph: ModelProto
    n_features_in_: int
    scores_name: str
    outputs: dict[str, str]
    answers: Callable[[NDArray[np.float32]], NDArray[np.float32]] | None = field(default=None, kw_only=True)

    @cached_property
    def _session(self) -> onnxruntime.InferenceSession:
        return _open(self.graph)

    def run(self, rows: Any) -> dict[str, Any]:
        """Its own answers to rows [N, features], by the names of its outputs."""
        given = np.asarray(rows, dtype=np.float32)
        if self.answers is not None:
            return {self.scores_name: self.answers(given)}
        (source,) = _inputs(self.graph)
        return dict(zip(self.outputs, self._session.run(list(self.outputs), {source.name: given}), strict=True))

    def predict(self, rows: Any) -> NDArray[Any]:
        (name,) = self.outputs
        values = np.asarray(self.run(rows)[name])
        return values if self.task is Task.MULTIOUTPUT else values.reshape(-1)

    @property
    def task(self) -> Task:
        return Task.MULTIOUTPUT if "row" in self.outputs.values() else Task.REGRESSION

    def contracted(self) -> ModelProto:
        """The file with the contract's input, and the scores, [N, columns], as its only output."""
        graph = ModelProto()
        graph.CopyFrom(self.graph)
        body, scores = graph.graph, self.scores_name
        if "values" in self.outputs.values():
            shape = onnx.numpy_helper.from_array(np.array([-1, 1], dtype=np.int64), "shokado_shape")
            body.initializer.append(shape)
            body.node.append(helper.make_node("Reshape", [scores, shape.name], ["shokado_column"]))
            scores = "shokado_column"
        del body.output[:]
        body.output.append(helper.make_tensor_value_info(scores, TensorProto.FLOAT, None))
        (source,) = _inputs(graph)
        rename(body, source.name, INPUT)
        del body.input[:]
        body.input.append(helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["N", self.n_features_in_]))
        return graph


@dataclass(frozen=True, eq=False)
class OnnxClassifier(OnnxModel):
    """The file of a classifier."""

    classes_: NDArray[Any]

    @property
    def task(self) -> Task:
        return Task.BINARY if len(self.classes_) == 2 else Task.MULTICLASS

    def predict_proba(self, rows: Any) -> NDArray[Any]:
        answers = self.run(rows)
        (name,) = (name for name, kind in self.outputs.items() if kind in ("probabilities", "maps"))
        if self.outputs[name] == "probabilities":
            return np.asarray(answers[name])
        return np.array([[row[label] for label in self.classes_.tolist()] for row in answers[name]], dtype=np.float32)

    def predict(self, rows: Any) -> NDArray[Any]:
        """Labels: where the file gives none, those of the likeliest class.

        Raises `UnsupportedModel` for one that is no class.
        """
        labelled = [name for name, kind in self.outputs.items() if kind == "labels"]
        if not labelled:
            scores = self.predict_proba(rows)
            # Of two classes a softmax may give 0.49999997 and 0.5: a tie, as a server sees the second one alone.
            is_second = scores[:, 1] >= ABOVE_HALF
            positions = is_second.astype(np.int64) if self.task is Task.BINARY else scores.argmax(axis=1)
            return np.asarray(self.classes_[positions])
        labels = np.asarray(self.run(rows)[labelled[0]])
        if not set(labels.tolist()) <= set(self.classes_.tolist()):
            raise UnsupportedModel("Its labels are not the classes of its probabilities.")
        return labels


def read(graph: ModelProto) -> OnnxModel:
    """What the file takes and gives. Raises `UnsupportedModel` with the reason for one that is not taken."""
    try:
        return understood(graph)
    except UnsupportedModel as error:
        raise UnsupportedModel(f"The ONNX file cannot be served: {error}") from None


def understood(
    graph: ModelProto, answers: Callable[[NDArray[np.float32]], NDArray[np.float32]] | None = None
) -> OnnxModel:
    """`read`, whose errors say the bare reason; see `OnnxModel.answers`."""
    graph = onnx.inliner.inline_local_functions(graph) if graph.functions else graph
    _refuse_operators(graph)
    width = _width(graph)
    body = graph.graph
    labels = [item.name for item in body.output if _kind(item) in (TensorProto.INT64, TensorProto.STRING)]
    floats = [item.name for item in body.output if _kind(item) == TensorProto.FLOAT]
    maps = [item.name for item in body.output if item.type.HasField("sequence_type")]
    if len(labels) > 1 or len(floats) + len(maps) != 1 or len(labels) + 1 != len(body.output):
        names = ", ".join(item.name for item in body.output)
        raise UnsupportedModel(
            f"it gives {names}, where one float32 output of values or of probabilities belongs, beside labels at most."
        )
    kinds = dict.fromkeys(labels, "labels") | dict.fromkeys(floats + maps, "probabilities")
    outputs = {item.name: kinds[item.name] for item in body.output}
    if maps:
        (source,) = [node for node in body.node if maps[0] in node.output]
        if source.op_type != "ZipMap":
            raise UnsupportedModel(f"its output {maps[0]} is a sequence of {source.op_type}: give it a tensor.")
        outputs[maps[0]] = "maps"
        if len(classes := _labels_in(source)) < 2:
            raise UnsupportedModel(f"it knows {len(classes)} class, so there is nothing to predict.")
        return OnnxClassifier(graph, width, source.input[0], outputs, np.array(classes))
    return _of_floats(OnnxModel(graph, width, floats[0], outputs, answers=answers), labels)


def without_signature(uri: str) -> str:
    """What there is to say of a logged model without one."""
    return (
        f"{uri} has no signature, which would say what its columns are and how MLflow asks it: log it with "
        "signature=mlflow.models.infer_signature(rows)."
    )


def _of_floats(model: OnnxModel, labels: list[str]) -> OnnxModel:
    """A value, or a classifier, by what the file answers."""
    random = np.random.default_rng(_SEED)
    rows = random.normal(size=(_PROBES, model.n_features_in_)) * 10 ** random.uniform(-2, 2, (_PROBES, 1))
    answers = model.run(rows)
    scores = np.asarray(answers[model.scores_name])
    name, shape = model.scores_name, list(scores.shape)
    if shape in ([_PROBES], [_PROBES, 1]) and not labels:
        kind = "values" if scores.ndim == 1 else "column"
        return OnnxModel(model.graph, model.n_features_in_, name, {name: kind}, answers=model.answers)
    if scores.ndim != 2 or len(scores) != _PROBES or scores.shape[1] < 2:
        raise UnsupportedModel(
            f"its output {name} is {shape} for {_PROBES} rows, where [N, 1] or [N, classes] belongs."
        )
    sums = scores.sum(axis=1)
    if not (np.abs(sums - 1) <= _SUM_TOLERANCE).all() or (scores < 0).any():
        if not labels:
            return OnnxModel(model.graph, model.n_features_in_, name, {name: "row"}, answers=model.answers)
        raise UnsupportedModel(
            f"its output {name} has {scores.shape[1]} numbers a row beside labels that are no probabilities, as they "
            "do not add up to 1, or are negative: export it with a softmax as its last step, or one for each number."
        )
    classes: Any = np.arange(scores.shape[1])
    if labels and np.shape(answers[labels[0]]) != (_PROBES,):
        shape = list(np.shape(answers[labels[0]]))
        raise UnsupportedModel(f"its labels {labels[0]} are {shape} for {_PROBES} rows, where [N] belongs.")
    if labels:
        classes = _classes(model.graph, labels[0], scores.shape[1], np.asarray(answers[labels[0]]))
    return OnnxClassifier(model.graph, model.n_features_in_, name, model.outputs, classes, answers=model.answers)


def _classes(graph: ModelProto, output: str, count: int, given: NDArray[Any]) -> NDArray[Any]:
    """The labels in the order of the probabilities: where the graph has them, else positions if labels may be those."""
    makers = {name: node for node in graph.graph.node for name in node.output}
    constants = {item.name: onnx.numpy_helper.to_array(item) for item in graph.graph.initializer}
    found = [labels for node in graph.graph.node if len(labels := _labels_in(node)) == count]
    maker = makers.get(output)
    while maker is not None and not found:
        if maker.op_type == "ArrayFeatureExtractor" and maker.input[0] in constants:
            found.append(constants[maker.input[0]].ravel().tolist())
            break
        maker = makers.get(maker.input[0]) if maker.input else None
    classes = np.array([_text(label) for label in found[0]] if found else range(count))
    if len(classes) != count or not set(given.tolist()) <= set(classes.tolist()):
        raise UnsupportedModel(f"which of its {count} probabilities belongs to which label is nowhere in it.")
    return classes


def _labels_in(node: NodeProto) -> list[Any]:
    for item in node.attribute:
        if item.name in _CLASS_LABELS and (labels := helper.get_attribute_value(item)):
            return [_text(label) for label in labels]
    return []


def _text(label: Any) -> Any:
    return label.decode() if isinstance(label, bytes) else label


def _inputs(graph: ModelProto) -> list[Any]:
    """Inputs, without those that only name a constant."""
    constants = {item.name for item in graph.graph.initializer}
    return [item for item in graph.graph.input if item.name not in constants]


def _kind(item: Any) -> int:
    return int(item.type.tensor_type.elem_type)


def _width(graph: ModelProto) -> int:
    inputs = _inputs(graph)
    dimensions = list(inputs[0].type.tensor_type.shape.dim) if inputs else []
    if len(inputs) != 1 or _kind(inputs[0]) != TensorProto.FLOAT or len(dimensions) != 2:
        shown = ", ".join(_shown(item) for item in inputs) or "none"
        raise UnsupportedModel(f"its inputs are {shown}, where one of float32 [N, features] belongs.")
    rows, columns = dimensions
    if rows.HasField("dim_value") and rows.dim_value > 0:
        raise UnsupportedModel(
            f"it takes {rows.dim_value} rows at a time, no more and no less: export it with a dynamic first axis."
        )
    if not columns.dim_value:
        raise UnsupportedModel("its input does not say how many columns it has: export it with their number.")
    return int(columns.dim_value)


def _shown(item: Any) -> str:
    dimensions = [str(each.dim_value or each.dim_param or "?") for each in item.type.tensor_type.shape.dim]
    kind = TensorProto.DataType.Name(_kind(item)).lower() if item.type.HasField("tensor_type") else "no tensor"
    return f"{item.name} ({kind} [{', '.join(dimensions)}])"


def _refuse_operators(graph: ModelProto) -> None:
    """Operators of somebody's own, and graphs within operators, which have names from outside."""
    own = sorted({f"{node.domain}:{node.op_type}" for node in graph.graph.node if node.domain not in _DOMAINS})
    if own:
        raise UnsupportedModel(f"it has operators that ONNX Runtime has not: {', '.join(own)}.")
    inner = sorted({node.op_type for node in graph.graph.node if any(_has_graph(item) for item in node.attribute)})
    if inner:
        raise UnsupportedModel(f"it has graphs within {', '.join(inner)}: export it without loops and branches.")
    _open(graph)


def _has_graph(item: Any) -> bool:
    return item.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)


def _open(graph: ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, _FATAL
    try:
        return onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime and protobuf have some of their own, without a common base
        reason = str(error).strip().splitlines()[0]
        raise UnsupportedModel(f"it does not work in ONNX Runtime: {reason}") from error
