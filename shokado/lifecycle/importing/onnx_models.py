"""ONNX files of somebody's own, as `mlflow.onnx` logs them: what they take and give, and the same under the contract.

A graph goes in; a model comes out that answers `predict`, and `predict_proba` where it is a classifier, as those of
scikit-learn do: both are the file's own answers, by ONNX Runtime or by an evaluator. What a file takes is told in
`onnx_inputs`. What it may give, of float32 or float64, is

    one output [N, 1] or [N]                       a value
    one output [N, classes]                        probabilities, which must add up to 1
    labels [N], and probabilities, or a ZipMap     both, as skl2onnx and onnxmltools make them

What a framework was asked to export keeps that framework's own answers, see `OnnxModel.answers`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import onnx
import onnx.inliner
import onnxruntime
import pandas as pd
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from runners.artefacts.card import ABOVE_HALF, Task
from runners.inputs.schema import Feature
from shokado.lifecycle.errors import UnsupportedModel
from shokado.lifecycle.importing.graphs import set_apart
from shokado.lifecycle.importing.onnx_inputs import OnnxInput, inputs_of, no_score_beyond, put_behind, shown

_DOMAINS = {"", "ai.onnx", "ai.onnx.ml", "com.microsoft"}
"""Whose operators every ONNX Runtime has."""
_CLASS_LABELS = ("classlabels_int64s", "classlabels_strings", "classlabels_ints")
_FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE)
_OWN = "own_"
"""What the names of a file's own tensors begin with, where it stands under the contract."""
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
        inputs: what it takes.
        scores_name: the output of floats, or what its ZipMap makes a map of.
        outputs: what the file calls its outputs, and how each lies in its answer (see `Card.own_outputs`).
        answers: what the framework that it was exported from gives for rows, float32 [N, features], as its only output;
            None where the file is somebody's own, which answers for itself.
        evaluator: what computes the file's own answers; None: ONNX Runtime.
    """

    graph: ModelProto
    inputs: tuple[OnnxInput, ...]
    scores_name: str
    outputs: dict[str, str]
    answers: Callable[[NDArray[np.float32]], NDArray[np.float32]] | None = field(default=None, kw_only=True)
    evaluator: ReferenceEvaluator | None = field(default=None, kw_only=True)

    @cached_property
    def _session(self) -> Any:
        return self.evaluator or _open(self.graph)

    @cached_property
    def columns(self) -> tuple[OnnxInput, ...]:
        """The input that each column of a row is part of."""
        return tuple(source for source in self.inputs for _ in range(source.columns))

    @property
    def n_features_in_(self) -> int:
        return len(self.columns)

    @property
    def feature_names_in_(self) -> tuple[str, ...]:
        """What the columns are called where each has an input of its own, else nothing."""
        return tuple(source.name for source in self.inputs) if len(self.inputs) > 1 else ()

    @property
    def levels(self) -> tuple[tuple[str, ...], ...]:
        """The texts that are told apart, of each column; no texts of one of numbers."""
        return tuple(source.levels for source in self.columns)

    @property
    def largest(self) -> NDArray[np.float64]:
        """The largest number that each column takes: [features]."""
        return np.array([source.largest for source in self.columns])

    @property
    def makes_float32(self) -> bool:
        """Whether all numbers that it takes are float32."""
        return all(source.kind in (TensorProto.FLOAT, TensorProto.STRING) for source in self.inputs)

    @property
    def takes_doubles(self) -> bool:
        return any(source.kind == TensorProto.DOUBLE for source in self.inputs)

    def run(self, rows: Any) -> dict[str, Any]:
        """Its own answers to rows [N, features], an array or a frame, by the names of its outputs.

        Raises `ValueError` for rows that it does not take.
        """
        if self.answers is not None:
            return {self.scores_name: self.answers(np.asarray(rows, dtype=np.float32))}
        if isinstance(rows, pd.DataFrame):
            rows = rows[list(self.feature_names_in_ or rows.columns)].to_numpy(dtype=object)
        values = np.asarray(rows)
        feeds, at = {}, 0
        for source in self.inputs:
            feeds[source.name] = source.tensor(values[:, at : at + source.columns])
            at += source.columns
        try:
            with np.errstate(all="ignore"):
                answers = self._session.run(list(self.outputs), feeds)
        except Exception as error:  # ONNX Runtime, and each operator of an evaluator, have some of their own
            raise ValueError(_reason(error)) from error
        return dict(zip(self.outputs, answers, strict=True))

    def predict(self, rows: Any) -> NDArray[Any]:
        (name,) = self.outputs
        values = np.asarray(self.run(rows)[name])
        return values if self.task is Task.MULTIOUTPUT else values.reshape(-1)

    @property
    def task(self) -> Task:
        return Task.MULTIOUTPUT if "row" in self.outputs.values() else Task.REGRESSION

    def contracted(self, *, is_wide: bool = False) -> ModelProto:
        """The file with the contract's input, and the scores, float32 [N, columns], as its only output."""
        graph = ModelProto()
        graph.CopyFrom(self.graph)
        set_apart(graph.graph, _OWN)
        body, scores = graph.graph, f"{_OWN}{self.scores_name}"
        if "values" in self.outputs.values():
            shape = onnx.numpy_helper.from_array(np.array([-1, 1], dtype=np.int64), "shokado_shape")
            body.initializer.append(shape)
            body.node.append(helper.make_node("Reshape", [scores, shape.name], ["shokado_column"]))
            scores = "shokado_column"
        if self._gives_doubles:
            body.node.append(helper.make_node("Cast", [scores], ["shokado_scores"], to=TensorProto.FLOAT))
            scores = "shokado_scores"
        inputs = [replace(source, name=f"{_OWN}{source.name}") for source in self.inputs]
        put_behind(graph, inputs, self.n_features_in_, is_wide=is_wide)
        if np.isfinite(self.largest).any():
            scores = no_score_beyond(graph, scores, self.largest)
        del body.output[:]
        body.output.append(helper.make_tensor_value_info(scores, TensorProto.FLOAT, None))
        return graph

    @property
    def _gives_doubles(self) -> bool:
        """Whether scores may be float64; of what a ZipMap takes the file does not say it."""
        kinds = [_kind(item) for item in self.graph.graph.output if item.name == self.scores_name]
        return TensorProto.DOUBLE in kinds or (not kinds and self.takes_doubles)

    def features(self, names: Sequence[str]) -> tuple[Feature, ...]:
        """The columns, by names, as they are in the file."""
        return tuple(
            Feature(name=name, type=source.type, levels=source.levels)
            for name, source in zip(names, self.columns, strict=True)
        )

    def check(self, features: Sequence[Feature]) -> None:
        """Raise `UnsupportedModel` where a feature is of another type than its column in the file."""
        for feature, source in zip(features, self.columns, strict=True):
            is_text = feature.type in ("category", "text")
            if (is_text and source.type == "float") or source.type not in (feature.type, "float"):
                raise UnsupportedModel(
                    f"{feature.name} is of the type {feature.type} by its signature, and {source.type} in the file, "
                    f"which takes {shown(self.graph)}."
                )


@dataclass(frozen=True, eq=False)
class OnnxClassifier(OnnxModel):
    """The file of a classifier.

    Attributes:
        classes_: the labels in the order of the probabilities.
        own_labels: what the file itself calls them; None: the same.
    """

    classes_: NDArray[Any]
    own_labels: NDArray[Any] | None = field(default=None, kw_only=True)

    def called(self, classes: Sequence[int | str]) -> "OnnxClassifier":
        """The same with other labels, in the order of the probabilities."""
        return replace(self, classes_=np.array(classes, dtype=object), own_labels=self._labels)

    @property
    def _labels(self) -> NDArray[Any]:
        return self.classes_ if self.own_labels is None else self.own_labels

    @property
    def task(self) -> Task:
        return Task.BINARY if len(self.classes_) == 2 else Task.MULTICLASS

    def predict_proba(self, rows: Any) -> NDArray[Any]:
        answers = self.run(rows)
        (name,) = (name for name, kind in self.outputs.items() if kind in ("probabilities", "maps"))
        if self.outputs[name] == "probabilities":
            return np.asarray(answers[name])
        return np.array([[row[label] for label in self._labels.tolist()] for row in answers[name]], dtype=np.float32)

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
        position_of = {label: position for position, label in enumerate(self._labels.tolist())}
        if not set(labels.tolist()) <= set(position_of):
            raise UnsupportedModel("Its labels are not the classes of its probabilities.")
        return np.asarray(self.classes_[[position_of[label] for label in labels.tolist()]])


class ZipMap(OpRun):
    """The operator of this name, which the evaluator of the onnx package lacks."""

    op_domain = "ai.onnx.ml"

    def _run(self, scores: Any, classlabels_int64s: Any = None, classlabels_strings: Any = None) -> tuple[Any]:
        labels = classlabels_int64s or classlabels_strings
        return ([dict(zip(labels, row, strict=True)) for row in scores.tolist()],)


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
    inputs = inputs_of(graph)
    body = graph.graph
    labels = [item.name for item in body.output if _kind(item) in (TensorProto.INT64, TensorProto.STRING)]
    floats = [item.name for item in body.output if _kind(item) in _FLOATS]
    maps = [item.name for item in body.output if item.type.HasField("sequence_type")]
    if len(labels) > 1 or len(floats) + len(maps) != 1 or len(labels) + 1 != len(body.output):
        names = ", ".join(item.name for item in body.output)
        raise UnsupportedModel(
            f"it gives {names}, where one output of values or of probabilities belongs, float32 or float64, beside "
            "labels at most."
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
        return OnnxClassifier(graph, inputs, source.input[0], outputs, np.array(classes))
    try:
        return _of_floats(OnnxModel(graph, inputs, floats[0], outputs, answers=answers), labels)
    except ValueError as error:
        raise UnsupportedModel(f"it does not answer all rows of its columns: {error}.") from error


def as_classifier(model: OnnxModel, *, is_logits: bool) -> OnnxModel:
    """The file with probabilities of each class, of logits or of those that it gives; a single one is the second's.

    A file that has probabilities of classes is left as it is. Raises `UnsupportedModel`.
    """
    if isinstance(model, OnnxClassifier):
        if is_logits:
            raise UnsupportedModel("The ONNX file gives probabilities, and no logits: leave --logits out.")
        return model
    ((scores, kind),) = model.outputs.items()
    graph = ModelProto()
    graph.CopyFrom(model.graph)
    body, is_one = graph.graph, kind != "row"
    (output,) = body.output

    def add(operator: str, inputs: list[str], **attributes: Any) -> str:
        name = f"shokado_{operator.lower()}"
        body.node.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    if is_one:
        shape = onnx.numpy_helper.from_array(np.array([-1, 1], dtype=np.int64), "shokado_one_column")
        body.initializer.append(shape)
        scores = add("Reshape", [scores, shape.name])
    if is_logits:
        scores = add("Sigmoid", [scores]) if is_one else add("Softmax", [scores], axis=1)
    if is_one:
        one = np.ones(1, dtype=helper.tensor_dtype_to_np_dtype(_kind(output)))
        body.initializer.append(onnx.numpy_helper.from_array(one, "shokado_all"))
        scores = add("Concat", [add("Sub", ["shokado_all", scores]), scores], axis=1)
    changed = helper.make_tensor_value_info(scores, _kind(output), ["N", None])
    del body.output[:]
    body.output.append(changed)
    return read(graph)


def without_signature(uri: str) -> str:
    """What there is to say of a logged model without one."""
    return (
        f"{uri} has no signature, which would say what its columns are and how MLflow asks it: log it with "
        "signature=mlflow.models.infer_signature(rows)."
    )


def probes(columns: Sequence[OnnxInput]) -> NDArray[Any]:
    """Rows of all sizes, and of all levels: [256, features]."""
    random = np.random.default_rng(_SEED)
    rows = random.normal(size=(_PROBES, len(columns))) * 10 ** random.uniform(-2, 2, (_PROBES, 1))
    if all(source.type == "float" for source in columns):
        return rows
    found = rows.astype(object)
    for at, source in enumerate(columns):
        if source.type == "integer":
            found[:, at] = np.rint(rows[:, at])
        elif source.type == "boolean":
            found[:, at] = rows[:, at] > 0
        elif source.type == "category":
            found[:, at] = np.array(source.levels, dtype=object)[random.integers(0, len(source.levels), _PROBES)]
    return found


def _of_floats(model: OnnxModel, labels: list[str]) -> OnnxModel:
    """A value, or a classifier, by what the file answers."""
    answers = model.run(probes(model.columns))
    scores = np.asarray(answers[model.scores_name])
    name, shape = model.scores_name, list(scores.shape)
    if shape in ([_PROBES], [_PROBES, 1]) and not labels:
        kind = "values" if scores.ndim == 1 else "column"
        return replace(model, outputs={name: kind})
    if scores.ndim != 2 or len(scores) != _PROBES or scores.shape[1] < 2:
        raise UnsupportedModel(
            f"its output {name} is {shape} for {_PROBES} rows, where [N, 1] or [N, classes] belongs."
        )
    sums = scores.sum(axis=1)
    if not (np.abs(sums - 1) <= _SUM_TOLERANCE).all() or (scores < -_SUM_TOLERANCE).any():
        if not labels:
            return replace(model, outputs={name: "row"})
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
    return OnnxClassifier(model.graph, model.inputs, name, model.outputs, classes, answers=model.answers)


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


def _kind(item: Any) -> int:
    return int(item.type.tensor_type.elem_type)


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
        raise UnsupportedModel(f"it does not work in ONNX Runtime: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
